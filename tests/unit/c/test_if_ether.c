/* ARP and the Ethernet door, frame by frame, in virtual time. */
#include "bsdcore/net/ethernet.h"
#include "tests/unit/c/fakeport.h"
#include "tests/unit/c/linkstack.h"

#define SEC NSEC_PER_SEC

static const uint8_t us[6] = { 2, 0, 0, 0, 0, 1 };
static const uint8_t peer[6] = { 2, 0, 0, 0, 0, 9 };
static const uint8_t other[6] = { 2, 0, 0, 0, 0, 10 };
static const uint8_t everybody[6] = { 255, 255, 255, 255, 255, 255 };
static const uint8_t nobody[6];

/* One host, 10.0.0.1/24, and what it sent. */
struct host {
	struct pkt_pool *h_pool;
	struct fake *h_fake;
	struct stack *h_s;
	struct ifnet *h_if;
	int h_seen; /* frames looked at */
	bool h_closed;
};

static void
host_new(struct host *h)
{
	union inaddr a = ls_ip("10.0.0.1");

	memset(h, 0, sizeof(*h));
	h->h_pool = nic_pool_new(1 << 22);
	h->h_s = ls_new(1 << 22);
	h->h_fake = fake_open(h->h_pool, PORT_ETHER, PORT_SG | PORT_TXCSUM,
	    &h->h_closed);
	CHECK_EQ(if_attach(h->h_s, &h->h_fake->fk_port, "en0", &h->h_if), 0);
	CHECK_EQ(if_addaddr(h->h_if, &a, 24), 0);
	ls_run(h->h_s, h->h_s->s_now);
	CHECK_EQ(h->h_fake->fk_nout, 1); /* the announcement */
	h->h_seen = 1;
}

static void
host_free(struct host *h)
{
	ls_free(h->h_s);
	CHECK(h->h_closed);
	nic_pool_free(h->h_pool);
}

static void
put_frame(struct host *h, const void *frame, uint32_t len)
{
	struct pkt *p = pkt_alloc(h->h_pool, len + 32, 32);

	CHECK(p != NULL);
	memcpy(p->p_data, frame, len);
	p->p_len = p->p_pktlen = len;
	fake_receives(h->h_fake, p);
	ls_run(h->h_s, h->h_s->s_now);
}

struct arpframe {
	struct ether_header eh;
	struct ether_arp ea;
};

static struct arpframe
arp(int op, const uint8_t *sha, const char *sip, const char *tip)
{
	struct arpframe f = { .ea = { .ar_hrd = { 0, 1 },
				  .ar_pro = { 8, 0 },
				  .ar_hln = 6,
				  .ar_pln = 4,
				  .ar_op = { 0, (uint8_t)op } } };
	union inaddr s = ls_ip(sip), t = ls_ip(tip);

	memcpy(f.eh.ether_dhost, op == 1 ? everybody : us, 6);
	memcpy(f.eh.ether_shost, sha, 6);
	be16put(f.eh.ether_type, ETHERTYPE_ARP);
	memcpy(f.ea.arp_sha, sha, 6);
	memcpy(f.ea.arp_spa, &s.ia_w[3], 4);
	memcpy(f.ea.arp_tpa, &t.ia_w[3], 4);
	return f;
}

static void
put_arp(struct host *h, int op, const uint8_t *sha, const char *sip,
    const char *tip)
{
	struct arpframe f = arp(op, sha, sip, tip);

	put_frame(h, &f, sizeof(f));
}

/* The next frame that was sent must be this ARP packet. */
static void
expect_arp(struct host *h, int op, const uint8_t *dst, const char *sip,
    const char *tip, const uint8_t *tha)
{
	struct arpframe want = arp(op, us, sip, tip), got;

	CHECK(h->h_seen < h->h_fake->fk_nout);
	memcpy(want.eh.ether_dhost, dst, 6);
	memcpy(want.ea.arp_tha, tha, 6);
	CHECK_EQ(h->h_fake->fk_out[h->h_seen]->p_pktlen, sizeof(got));
	CHECK(pkt_copyout(h->h_fake->fk_out[h->h_seen], 0, sizeof(got), &got));
	CHECK_MEM(&got, &want, sizeof(got));
	h->h_seen++;
}

static void
expect_silence(struct host *h)
{
	CHECK_EQ(h->h_fake->fk_nout, h->h_seen);
}

/* An IPv4 UDP packet to dst whose payload is one number. */
static struct mbuf *
packet(struct host *h, const char *dst, uint8_t number)
{
	struct mbuf *m = m_gethdr(h->h_s->s_mb, MT_DATA);
	union inaddr d = ls_ip(dst), s = ls_ip("10.0.0.1");
	uint8_t *b;

	CHECK(m != NULL);
	m->m_data += MAX_HDR;
	m->m_len = m->m_pkthdr.len = 29;
	m->m_pkthdr.rcvif = NULL;
	m->m_pkthdr.csum_flags = 0;
	m->m_pkthdr.pkt_flags = 0;
	b = mtod(m, uint8_t *);
	memset(b, 0, 29);
	b[0] = 0x45;
	b[3] = 29;
	b[8] = 64;
	b[9] = 17;
	memcpy(b + 12, &s.ia_w[3], 4);
	memcpy(b + 16, &d.ia_w[3], 4);
	b[25] = 9;
	b[28] = number;
	return m;
}

static int
output(struct host *h, const char *dst, uint8_t number)
{
	union inaddr gw = ls_ip(dst);
	int error;

	stack_enter(h->h_s);
	error = h->h_if->if_output(h->h_if, packet(h, dst, number), &gw, NULL);
	stack_leave(h->h_s);
	return error;
}

static void
expect_packet(struct host *h, const uint8_t *dst, uint8_t number)
{
	uint8_t b[43];

	CHECK(h->h_seen < h->h_fake->fk_nout);
	CHECK_EQ(h->h_fake->fk_out[h->h_seen]->p_pktlen, 43);
	CHECK(pkt_copyout(h->h_fake->fk_out[h->h_seen], 0, 43, b));
	CHECK_MEM(b, dst, 6);
	CHECK_MEM(b + 6, us, 6);
	CHECK_EQ(be16get(b + 12), ETHERTYPE_IP);
	CHECK_EQ(b[42], number);
	h->h_seen++;
}

TEST(announces_its_address)
{
	struct host h;

	host_new(&h);
	h.h_seen = 0;
	expect_arp(&h, 1, everybody, "10.0.0.1", "10.0.0.1", nobody);
	expect_silence(&h);
	host_free(&h);
}

TEST(resolves_and_sends_in_order)
{
	struct host h;

	host_new(&h);
	for (uint8_t i = 0; i < 3; i++) {
		CHECK_EQ(output(&h, "10.0.0.9", i), 0);
	}
	expect_arp(&h, 1, everybody, "10.0.0.1", "10.0.0.9", nobody);
	expect_silence(&h);
	put_arp(&h, 2, peer, "10.0.0.9", "10.0.0.1");
	for (uint8_t i = 0; i < 3; i++) {
		expect_packet(&h, peer, i);
	}
	CHECK_EQ(output(&h, "10.0.0.9", 3), 0);
	expect_packet(&h, peer, 3);
	expect_silence(&h);
	host_free(&h);
}

TEST(asks_once_a_second_then_gives_up)
{
	struct host h;
	uint64_t start;

	host_new(&h);
	start = h.h_s->s_now;
	CHECK_EQ(output(&h, "10.0.0.9", 0), 0);
	for (unsigned i = 0; i < 5; i++) {
		ls_until(h.h_s, start + i * SEC);
		CHECK_EQ(h.h_fake->fk_when[h.h_seen], start + i * SEC);
		expect_arp(&h, 1, everybody, "10.0.0.1", "10.0.0.9", nobody);
		expect_silence(&h);
	}
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.unreach"), 0);
	ls_until(h.h_s, start + 5 * SEC);
	expect_silence(&h);
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.unreach"), 1);
	CHECK_EQ(ls_stat(h.h_s, "arp.timeouts"), 1);
	/* Down: refused at once, then asked for again. */
	CHECK_EQ(output(&h, "10.0.0.9", 1), EHOSTUNREACH);
	ls_until(h.h_s, start + 25 * SEC);
	CHECK_EQ(output(&h, "10.0.0.9", 2), 0);
	expect_arp(&h, 1, everybody, "10.0.0.1", "10.0.0.9", nobody);
	put_arp(&h, 2, peer, "10.0.0.9", "10.0.0.1");
	expect_packet(&h, peer, 2);
	host_free(&h);
}

TEST(hold_queues_are_bounded)
{
	struct host h;

	host_new(&h);
	for (uint8_t i = 0; i < 20; i++) {
		CHECK_EQ(output(&h, "10.0.0.9", i), 0);
	}
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.holdfull"), 4);
	h.h_seen++;
	put_arp(&h, 2, peer, "10.0.0.9", "10.0.0.1");
	for (uint8_t i = 4; i < 20; i++) {
		expect_packet(&h, peer, i);
	}
	CHECK_EQ(sysctl_set(h.h_s, "net.link.ether.inet.maxhold_total", 5), 0);
	for (uint8_t i = 0; i < 5; i++) {
		CHECK_EQ(output(&h, "10.0.0.20", i), 0);
	}
	CHECK_EQ(output(&h, "10.0.0.21", 0), ENOBUFS);
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.holdtotal"), 1);
	/* Dropping what is held for one makes room for the other. */
	ls_until(h.h_s, h.h_s->s_now + 6 * SEC);
	CHECK_EQ(output(&h, "10.0.0.22", 0), 0);
	host_free(&h);
}

TEST(table_is_bounded)
{
	struct host h;
	char text[32];

	host_new(&h);
	CHECK_EQ(sysctl_set(h.h_s, "net.link.ether.inet.maxentries", 10), 0);
	for (int i = 10; i < 60; i++) {
		snprintf(text, sizeof(text), "10.0.0.%d", i);
		put_arp(&h, 1, peer, text, "10.0.0.1");
	}
	CHECK_EQ(ls_stat(h.h_s, "arp.inuse"), 10);
	CHECK_EQ(ls_stat(h.h_s, "arp.purged"), 40);
	CHECK_EQ(ls_stat(h.h_s, "arp.txreplies"), 50);
	for (int i = 100; i < 110; i++) {
		snprintf(text, sizeof(text), "10.0.0.%d", i);
		CHECK_EQ(output(&h, text, 0), 0);
	}
	CHECK_EQ(output(&h, "10.0.0.99", 0), ENOBUFS);
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.tablefull"), 1);
	host_free(&h);
}

TEST(answers_for_itself_only)
{
	struct host h;

	host_new(&h);
	put_arp(&h, 1, peer, "10.0.0.9", "10.0.0.1");
	expect_arp(&h, 2, peer, "10.0.0.1", "10.0.0.9", peer);
	put_arp(&h, 1, peer, "10.0.0.9", "10.0.0.2");
	expect_silence(&h);
	/* A probe for our address is answered, and teaches nothing. */
	put_arp(&h, 1, other, "0.0.0.0", "10.0.0.1");
	expect_arp(&h, 2, other, "10.0.0.1", "0.0.0.0", other);
	CHECK_EQ(ls_stat(h.h_s, "arp.inuse"), 1);
	/* Whoever asked for us is known: no request of our own. */
	CHECK_EQ(output(&h, "10.0.0.9", 7), 0);
	expect_packet(&h, peer, 7);
	expect_silence(&h);
	host_free(&h);
}

TEST(gateway_answers_for_all_but_the_asker)
{
	struct host h;

	host_new(&h);
	CHECK_EQ(if_setflags(h.h_if, IFF_PROMISC_ | IFF_ANYIP_, 0), 0);
	put_arp(&h, 1, peer, "192.168.7.7", "8.8.8.8");
	expect_arp(&h, 2, peer, "8.8.8.8", "192.168.7.7", peer);
	put_arp(&h, 1, peer, "192.168.7.7", "192.168.7.7"); /* announces */
	put_arp(&h, 1, peer, "0.0.0.0", "192.168.7.7");	    /* probes */
	put_arp(&h, 1, peer, "192.168.7.7", "224.0.0.1");
	expect_silence(&h);
	CHECK_EQ(output(&h, "192.168.7.7", 1), 0);
	expect_packet(&h, peer, 1);
	host_free(&h);
}

TEST(believes_no_stranger)
{
	struct host h;
	struct arpframe f;

	host_new(&h);
	put_arp(&h, 2, peer, "10.0.0.9", "10.0.0.1"); /* nobody asked */
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.unsolicited"), 1);
	put_arp(&h, 1, peer, "10.0.0.9", "10.0.0.8");  /* not for us */
	put_arp(&h, 1, peer, "192.0.2.9", "10.0.0.1"); /* not a neighbour */
	CHECK_EQ(ls_stat(h.h_s, "arp.inuse"), 0);
	h.h_seen++; /* the answer to the last */
	put_arp(&h, 1, everybody, "10.0.0.9", "10.0.0.1");
	CHECK_EQ(ls_stat(h.h_s, "ether.drop.badsource"), 1);
	put_arp(&h, 1, us, "10.0.0.9", "10.0.0.1");
	put_arp(&h, 1, nobody, "10.0.0.9", "10.0.0.1");
	f = arp(1, peer, "10.0.0.9", "10.0.0.1");
	f.ea.arp_sha[0] |= 1;
	put_frame(&h, &f, sizeof(f));
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.badsender"), 3);
	put_arp(&h, 1, peer, "224.0.0.9", "10.0.0.1");
	put_arp(&h, 1, peer, "10.0.0.255", "10.0.0.1");
	put_arp(&h, 1, peer, "127.0.0.1", "10.0.0.1");
	put_arp(&h, 3, peer, "10.0.0.9", "10.0.0.1");
	put_arp(&h, 2, peer, "0.0.0.0", "10.0.0.1");
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.invalidreqs"), 5);
	expect_silence(&h);
	host_free(&h);
}

TEST(malformed_arp)
{
	static const struct {
		size_t at;
		uint8_t value;
	} bad[] = {
		{ 15, 6 },
		{ 16, 9 },
		{ 18, 8 },
		{ 18, 0 },
		{ 19, 16 },
	};
	struct host h;

	host_new(&h);
	for (size_t i = 0; i < nitems(bad); i++) {
		struct arpframe f = arp(1, peer, "10.0.0.9", "10.0.0.1");

		((uint8_t *)&f)[bad[i].at] = bad[i].value;
		put_frame(&h, &f, sizeof(f));
	}
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.badproto"), nitems(bad));
	for (uint32_t len = 14; len < sizeof(struct arpframe); len++) {
		struct arpframe f = arp(1, peer, "10.0.0.9", "10.0.0.1");

		put_frame(&h, &f, len);
	}
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.badlen"), 28);
	expect_silence(&h);
	host_free(&h);
}

TEST(conflict_is_defended_now_and_then)
{
	struct host h;

	host_new(&h);
	put_arp(&h, 1, peer, "10.0.0.1", "10.0.0.1");
	expect_arp(&h, 1, everybody, "10.0.0.1", "10.0.0.1", nobody);
	put_arp(&h, 2, peer, "10.0.0.1", "10.0.0.5");
	ls_until(h.h_s, h.h_s->s_now + 9 * SEC);
	put_arp(&h, 1, peer, "10.0.0.1", "10.0.0.5");
	expect_silence(&h);
	ls_until(h.h_s, h.h_s->s_now + 2 * SEC);
	put_arp(&h, 1, peer, "10.0.0.1", "10.0.0.5");
	expect_arp(&h, 1, everybody, "10.0.0.1", "10.0.0.1", nobody);
	CHECK_EQ(ls_stat(h.h_s, "arp.dupips"), 4);
	CHECK_EQ(ls_stat(h.h_s, "arp.txconflicts"), 2);
	host_free(&h);
}

TEST(refreshes_in_use_by_unicast)
{
	struct host h;
	uint64_t start;

	host_new(&h);
	put_arp(&h, 1, peer, "10.0.0.9", "10.0.0.1");
	h.h_seen++;
	start = h.h_s->s_now;
	ls_until(h.h_s, start + 119 * SEC);
	CHECK_EQ(output(&h, "10.0.0.9", 1), 0);
	expect_packet(&h, peer, 1);
	expect_silence(&h);
	ls_until(h.h_s, start + 121 * SEC);
	CHECK_EQ(output(&h, "10.0.0.9", 2), 0);
	expect_arp(&h, 1, peer, "10.0.0.1", "10.0.0.9", nobody);
	expect_packet(&h, peer, 2);
	put_arp(&h, 2, peer, "10.0.0.9", "10.0.0.1");
	ls_until(h.h_s, start + 130 * SEC);
	expect_silence(&h);
	/* No answer: three by unicast, two by broadcast, down. */
	ls_until(h.h_s, start + 260 * SEC);
	CHECK_EQ(output(&h, "10.0.0.9", 3), 0);
	ls_until(h.h_s, h.h_s->s_now + 10 * SEC);
	expect_arp(&h, 1, peer, "10.0.0.1", "10.0.0.9", nobody);
	expect_packet(&h, peer, 3);
	expect_arp(&h, 1, peer, "10.0.0.1", "10.0.0.9", nobody);
	expect_arp(&h, 1, peer, "10.0.0.1", "10.0.0.9", nobody);
	expect_arp(&h, 1, everybody, "10.0.0.1", "10.0.0.9", nobody);
	expect_arp(&h, 1, everybody, "10.0.0.1", "10.0.0.9", nobody);
	expect_silence(&h);
	CHECK_EQ(output(&h, "10.0.0.9", 4), EHOSTUNREACH);
	/* Heard of again: up again, at its new address. */
	put_arp(&h, 1, other, "10.0.0.9", "10.0.0.1");
	h.h_seen++;
	CHECK_EQ(output(&h, "10.0.0.9", 5), 0);
	expect_packet(&h, other, 5);
	host_free(&h);
}

TEST(unused_entries_go)
{
	struct host h;
	uint64_t start;

	host_new(&h);
	put_arp(&h, 1, peer, "10.0.0.9", "10.0.0.1");
	start = h.h_s->s_now;
	ls_until(h.h_s, start + 1199 * SEC);
	CHECK_EQ(ls_stat(h.h_s, "arp.inuse"), 1);
	ls_until(h.h_s, start + 1201 * SEC);
	CHECK_EQ(ls_stat(h.h_s, "arp.inuse"), 0);
	CHECK_EQ(ls_stat(h.h_s, "arp.purged"), 1);
	host_free(&h);
}

static bool
walk_one(const struct arp_entry *ae, void *arg)
{
	*(struct arp_entry *)arg = *ae;
	return false;
}

TEST(permanent_entries)
{
	struct host h;
	union inaddr a = ls_ip("10.0.0.9"), v6 = ls_ip("2001:db8::9"),
		     group = ls_ip("224.0.0.5");
	struct arp_entry ae;
	uint8_t mac[6];

	host_new(&h);
	CHECK_EQ(arp_setstatic(h.h_if, &group, peer), EINVAL);
	CHECK_EQ(arp_setstatic(h.h_if, &a, everybody), EINVAL);
	CHECK_EQ(output(&h, "10.0.0.9", 1), 0);
	h.h_seen++;
	stack_enter(h.h_s);
	CHECK_EQ(arp_setstatic(h.h_if, &a, peer), 0);
	stack_leave(h.h_s);
	expect_packet(&h, peer, 1);
	put_arp(&h, 1, other, "10.0.0.9", "10.0.0.1");
	CHECK_EQ(ls_stat(h.h_s, "arp.drop.permanent"), 1);
	h.h_seen++;
	ls_until(h.h_s, h.h_s->s_now + 5000 * SEC);
	CHECK_EQ(output(&h, "10.0.0.9", 2), 0);
	expect_packet(&h, peer, 2);
	arp_walk(h.h_s, walk_one, &ae);
	CHECK_EQ(ae.ae_state, 3);
	CHECK_MEM(ae.ae_mac, peer, 6);
	CHECK(ae.ae_ifp == h.h_if);
	/* IPv6 has permanent neighbours and no others. */
	CHECK_EQ(arp_resolve(h.h_if, &v6, packet(&h, "10.0.0.9", 0), mac),
	    EHOSTUNREACH);
	CHECK_EQ(arp_setstatic(h.h_if, &v6, other), 0);
	CHECK_EQ(arp_resolve(h.h_if, &v6, NULL, mac), 0);
	CHECK_MEM(mac, other, 6);
	host_free(&h);
}

TEST(detaching_with_packets_held)
{
	struct host h;

	host_new(&h);
	CHECK_EQ(output(&h, "10.0.0.9", 1), 0);
	CHECK_EQ(output(&h, "10.0.0.8", 1), 0);
	if_detach(h.h_if);
	CHECK(h.h_closed);
	CHECK_EQ(ls_stat(h.h_s, "arp.inuse"), 0);
	CHECK_EQ(output(&h, "10.0.0.9", 1), ENXIO);
	host_free(&h);
}

/* The door: who is the frame for? */
static void
put_ether(struct host *h, const uint8_t *dst, const uint8_t *src, int type,
    uint32_t len)
{
	uint8_t b[64] = { 0 };

	memcpy(b, dst, 6);
	memcpy(b + 6, src, 6);
	be16put(b + 12, (uint16_t)type);
	put_frame(h, b, len);
}

TEST(door)
{
	static const uint8_t group[] = { 1, 0, 0x5e, 1, 2, 3 };
	static const uint8_t allhosts[] = { 1, 0, 0x5e, 0, 0, 1 };
	union inaddr g = ls_ip("224.1.2.3"), same = ls_ip("225.129.2.3");
	struct host h;

	host_new(&h);
	for (uint32_t len = 1; len < 14; len++) {
		put_ether(&h, us, peer, 0x88b5, len);
	}
	CHECK_EQ(ls_stat(h.h_s, "ether.drop.short"), 13);
	put_ether(&h, us, peer, 0x88b5, 60);
	put_ether(&h, us, peer, 46, 60); /* a length: 802.3 */
	CHECK_EQ(ls_stat(h.h_s, "ether.drop.noproto"), 2);
	put_ether(&h, other, peer, 0x88b5, 60);
	CHECK_EQ(ls_stat(h.h_s, "ether.drop.notours"), 1);
	put_ether(&h, group, peer, 0x88b5, 60);
	CHECK_EQ(ls_stat(h.h_s, "ether.drop.notmember"), 1);
	put_ether(&h, allhosts, peer, 0x88b5, 60);
	CHECK_EQ(ls_stat(h.h_s, "ether.drop.noproto"), 3);
	/* Two groups with one link address: it stays as long as either. */
	CHECK_EQ(if_addmulti(h.h_if, &g), 0);
	CHECK_EQ(h.h_fake->fk_ctl, PORT_CTL_MCAST_ADD);
	CHECK_EQ(if_addmulti(h.h_if, &same), 0);
	CHECK_EQ(if_addmulti(h.h_if, &same), 0);
	put_ether(&h, group, peer, 0x88b5, 60);
	CHECK_EQ(ls_stat(h.h_s, "ether.drop.noproto"), 4);
	CHECK_EQ(if_delmulti(h.h_if, &same), 0);
	CHECK_EQ(if_delmulti(h.h_if, &same), 0);
	CHECK_EQ(if_delmulti(h.h_if, &same), EADDRNOTAVAIL);
	CHECK_EQ(h.h_fake->fk_ctl, PORT_CTL_MCAST_ADD);
	CHECK_EQ(if_delmulti(h.h_if, &g), 0);
	CHECK_EQ(h.h_fake->fk_ctl, PORT_CTL_MCAST_DEL);
	put_ether(&h, group, peer, 0x88b5, 60);
	CHECK_EQ(ls_stat(h.h_s, "ether.drop.notmember"), 2);
	CHECK_EQ(if_setflags(h.h_if, IFF_PROMISC_, 0), 0);
	CHECK_EQ(h.h_fake->fk_ctl, PORT_CTL_PROMISC);
	put_ether(&h, other, peer, 0x88b5, 60);
	put_ether(&h, group, peer, 0x88b5, 60);
	CHECK_EQ(ls_stat(h.h_s, "ether.drop.noproto"), 6);
	host_free(&h);
}

TEST(group_addresses)
{
	static const uint8_t want4[] = { 1, 0, 0x5e, 0x7f, 0xff, 0xfa };
	static const uint8_t want6[] = { 0x33, 0x33, 0xff, 1, 2, 3 };
	union inaddr g4 = ls_ip("239.255.255.250"),
		     g6 = ls_ip("ff02::1:ff01:203");
	uint8_t mac[6];

	ether_mapmulti(&g4, mac);
	CHECK_MEM(mac, want4, 6);
	ether_mapmulti(&g6, mac);
	CHECK_MEM(mac, want6, 6);
}

TEST(groups_need_no_answer)
{
	static const uint8_t group[] = { 1, 0, 0x5e, 0, 0, 251 };
	struct host h;

	host_new(&h);
	CHECK_EQ(output(&h, "224.0.0.251", 1), 0);
	expect_packet(&h, group, 1);
	CHECK_EQ(output(&h, "10.0.0.255", 2), 0);
	expect_packet(&h, everybody, 2);
	CHECK_EQ(output(&h, "255.255.255.255", 3), 0);
	expect_packet(&h, everybody, 3);
	expect_silence(&h);
	host_free(&h);
}

TESTS(RUN(announces_its_address), RUN(resolves_and_sends_in_order),
    RUN(asks_once_a_second_then_gives_up), RUN(hold_queues_are_bounded),
    RUN(table_is_bounded), RUN(answers_for_itself_only),
    RUN(gateway_answers_for_all_but_the_asker), RUN(believes_no_stranger),
    RUN(malformed_arp), RUN(conflict_is_defended_now_and_then),
    RUN(refreshes_in_use_by_unicast), RUN(unused_entries_go),
    RUN(permanent_entries), RUN(detaching_with_packets_held), RUN(door),
    RUN(group_addresses), RUN(groups_need_no_answer))
