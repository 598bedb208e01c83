/* Packets to mbufs and back, short takes, bounds, lo0. */
#include "bsdcore/net/if_port.c"
#include "tests/unit/c/fakeport.h"
#include "tests/unit/c/linkstack.h"

struct host {
	struct pkt_pool *h_pool;
	struct fake *h_fake;
	struct stack *h_s;
	struct ifnet *h_if;
	bool h_closed;
};

static void
host_new(struct host *h, enum port_link link)
{
	memset(h, 0, sizeof(*h));
	h->h_pool = nic_pool_new(1 << 22);
	h->h_s = ls_new(1 << 24);
	h->h_fake = fake_open(h->h_pool, link, PORT_SG | PORT_TXCSUM | PORT_TSO,
	    &h->h_closed);
	h->h_fake->fk_port.pt_gsomax = 65549;
	CHECK_EQ(if_attach(h->h_s, &h->h_fake->fk_port, NULL, &h->h_if), 0);
}

static void
host_free(struct host *h)
{
	ls_free(h->h_s);
	CHECK(h->h_closed);
	nic_pool_free(h->h_pool);
}

/* A frame of the numbered kind, m_data at its first byte. */
static struct mbuf *
frame(struct host *h, uint32_t number, uint32_t len)
{
	struct mbuf *m = m_getm(h->h_s->s_mb, len, MT_DATA, M_PKTHDR), *n = m;
	uint32_t left = len;

	CHECK(m != NULL);
	while (left > 0) {
		n->m_len = u32min(left, M_TRAILINGSPACE(n));
		memset(n->m_data, 0x5a, n->m_len);
		left -= n->m_len;
		n = n->m_next;
	}
	m->m_pkthdr.len = len;
	memcpy(m->m_data, &number, sizeof(number));
	return m;
}

static void
send_frames(struct host *h, uint32_t from, uint32_t to)
{
	stack_enter(h->h_s);
	for (uint32_t i = from; i < to; i++) {
		CHECK_EQ(if_enqueue(h->h_if, frame(h, i, 60)), 0);
	}
	stack_leave(h->h_s);
}

static void
expect_sent(struct host *h, uint32_t n)
{
	CHECK_EQ(h->h_fake->fk_nout, n);
	for (uint32_t i = 0; i < n; i++) {
		CHECK_EQ(fake_number(h->h_fake->fk_out[i]), i);
	}
}

TEST(attaching)
{
	struct host h;
	struct fake *second;
	struct ifnet *ifp;
	bool closed;

	host_new(&h, PORT_ETHER);
	CHECK_STR(h.h_if->if_name, "fake0");
	CHECK_EQ(h.h_if->if_index, 2);
	CHECK_EQ(h.h_if->if_mtu, 1500);
	CHECK_EQ(h.h_if->if_gsomax, 65535);
	CHECK_EQ(h.h_if->if_hdrlen, 14);
	CHECK(h.h_if->if_flags & IFF_BROADCAST_);
	second = fake_open(h.h_pool, PORT_RAWIP, 0, &closed);
	second->fk_port.pt_gsomax = 1500; /* no more than one packet */
	CHECK_EQ(if_attach(h.h_s, &second->fk_port, "lo0", &ifp), EEXIST);
	CHECK_EQ(if_attach(h.h_s, &second->fk_port, "a-name-far-too-long", &ifp),
	    ENAMETOOLONG);
	CHECK_EQ(if_attach(h.h_s, &second->fk_port, NULL, &ifp), 0);
	CHECK_STR(ifp->if_name, "fake1");
	CHECK_EQ(ifp->if_hdrlen, 0);
	CHECK_EQ(ifp->if_gsomax, 0);
	CHECK(if_byname(h.h_s, "fake1") == ifp);
	CHECK(if_byindex(h.h_s, 3) == ifp);
	CHECK_EQ(if_setmtu(ifp, 67), EINVAL);
	CHECK_EQ(if_setmtu(ifp, 65536), EINVAL);
	CHECK_EQ(if_setmtu(ifp, 1400), 0);
	CHECK_EQ(if_setflags(ifp, IFF_LOOPBACK_, 0), EINVAL);
	if_detach(ifp);
	CHECK(closed);
	CHECK(if_byname(h.h_s, "fake1") == NULL);
	host_free(&h);
}

TEST(short_takes_keep_the_order)
{
	struct host h;

	host_new(&h, PORT_RAWIP);
	h.h_fake->fk_room = 10;
	send_frames(&h, 0, 100);
	expect_sent(&h, 10);
	CHECK(h.h_if->if_txblocked);
	CHECK_EQ(ls_stat(h.h_s, "if.txblocked"), 1);
	/* Blocked: nobody tries until a round. */
	h.h_fake->fk_room = 1000;
	send_frames(&h, 100, 110);
	expect_sent(&h, 10);
	CHECK(netisr_poll_at(h.h_s) > h.h_s->s_now);
	CHECK(netisr_poll_at(h.h_s) <= h.h_s->s_now + NSEC_PER_MSEC);
	ls_run(h.h_s, netisr_poll_at(h.h_s));
	expect_sent(&h, 110);
	CHECK(!h.h_if->if_txblocked);
	host_free(&h);
}

TEST(queue_is_bounded)
{
	struct host h;
	int error = 0;
	uint32_t i;

	host_new(&h, PORT_RAWIP);
	h.h_fake->fk_room = 0;
	stack_enter(h.h_s);
	for (i = 0; error == 0; i++) {
		error = if_enqueue(h.h_if, frame(&h, i, 60));
	}
	stack_leave(h.h_s);
	CHECK_EQ(error, ENOBUFS);
	CHECK_EQ(i, 4096 + PORT_BURST + 1);
	CHECK_EQ(h.h_if->if_data.oqdrops, 1);
	CHECK_EQ(ls_stat(h.h_s, "if.drop.txfull"), 1);
	host_free(&h);
}

TEST(broken_port)
{
	struct host h;

	host_new(&h, PORT_RAWIP);
	h.h_fake->fk_error = -EIO;
	send_frames(&h, 0, 5);
	CHECK_EQ(ls_stat(h.h_s, "if.drop.txerror"), 5);
	CHECK_EQ(h.h_if->if_data.oerrors, 5);
	ls_run(h.h_s, h.h_s->s_now);
	CHECK(ls_stat(h.h_s, "if.drop.rxerror") >= 1);
	h.h_fake->fk_error = -EAGAIN; /* nothing now, not an error */
	send_frames(&h, 0, 5);
	CHECK(h.h_if->if_txblocked);
	h.h_fake->fk_error = 0;
	ls_until(h.h_s, h.h_s->s_now + NSEC_PER_MSEC);
	expect_sent(&h, 5);
	host_free(&h);
}

TEST(down_interface)
{
	struct host h;

	host_new(&h, PORT_RAWIP);
	CHECK_EQ(if_setflags(h.h_if, 0, IFF_UP_), 0);
	CHECK_EQ(if_enqueue(h.h_if, frame(&h, 0, 60)), ENETDOWN);
	CHECK_EQ(ls_stat(h.h_s, "if.drop.txdown"), 1);
	fake_receives(h.h_fake, fake_frame(h.h_pool, 0, 60));
	ls_run(h.h_s, h.h_s->s_now);
	CHECK_EQ(ls_stat(h.h_s, "if.drop.rxdown"), 1);
	host_free(&h);
}

TEST(transmit_metadata)
{
	struct host h;
	struct mbuf *m;
	struct pkt *p;

	host_new(&h, PORT_ETHER);
	m = frame(&h, 0, 14 + 20 + 20 + 3000);
	memset(m->m_data, 0, 54);
	m->m_data[14 + 20 + 12] = 5 << 4; /* th_off */
	m->m_flags |= M_BCAST;
	m->m_pkthdr.csum_flags = CSUM_PARTIAL | CSUM_TSO;
	m->m_pkthdr.csum_start = 20;
	m->m_pkthdr.csum_stuff = 16;
	m->m_pkthdr.tso_segsz = 1000;
	m->m_pkthdr.gso_type = PKT_GSO_TCPV4;
	m->m_pkthdr.flowid = 77;
	m->m_pkthdr.origin = 5;
	m->m_pkthdr.svc = 3;
	m->m_pkthdr.pkt_flags = PKTF_TCP_REXMT;
	stack_enter(h.h_s);
	CHECK_EQ(if_enqueue(h.h_if, m), 0);
	stack_leave(h.h_s);
	CHECK_EQ(h.h_fake->fk_nout, 1);
	p = h.h_fake->fk_out[0];
	CHECK_EQ(p->p_pktlen, 3054);
	CHECK_EQ(p->p_csum_start, 34);
	CHECK_EQ(p->p_csum_offset, 16);
	CHECK_EQ(p->p_gso_size, 1000);
	CHECK_EQ(p->p_gso_type, PKT_GSO_TCPV4);
	CHECK_EQ(p->p_hdrlen, 54);
	CHECK_EQ(p->p_flags, PKT_TX | PKT_BCAST | PKT_REXMT | PKT_CSUM_PARTIAL);
	CHECK_EQ(p->p_flowid, 77);
	CHECK_EQ(p->p_origin, 5);
	CHECK_EQ(p->p_svc, 3);
	host_free(&h);
}

/* Whatever a protocol gets wrong, the port is not asked to follow. */
TEST(senseless_metadata)
{
	static const struct {
		uint8_t flags, doff;
		uint16_t start, stuff, segsz;
		uint32_t len;
	} bad[] = {
		{ CSUM_PARTIAL, 5, 20, 16, 0, 14 + 37 },
		{ CSUM_PARTIAL, 5, 20, 65535, 0, 2000 },
		{ CSUM_TSO, 5, 20, 16, 1000, 3000 },
		{ CSUM_TSO | CSUM_PARTIAL, 5, 20, 16, 0, 3000 },
		{ CSUM_TSO | CSUM_PARTIAL, 15, 20, 4, 20, 14 + 20 + 40 },
	};
	struct host h;

	host_new(&h, PORT_ETHER);
	stack_enter(h.h_s);
	for (size_t i = 0; i < nitems(bad); i++) {
		struct mbuf *m = frame(&h, 0, bad[i].len);

		m->m_data[46] = (uint8_t)(bad[i].doff << 4);
		m->m_pkthdr.csum_flags = bad[i].flags;
		m->m_pkthdr.csum_start = bad[i].start;
		m->m_pkthdr.csum_stuff = bad[i].stuff;
		m->m_pkthdr.tso_segsz = bad[i].segsz;
		m->m_pkthdr.gso_type = PKT_GSO_TCPV4;
		CHECK_EQ(if_enqueue(h.h_if, m), 0);
	}
	stack_leave(h.h_s);
	CHECK_EQ(h.h_fake->fk_nout, 0);
	CHECK_EQ(ls_stat(h.h_s, "if.drop.txmeta"), nitems(bad));
	host_free(&h);
}

TEST(receive_metadata)
{
	struct host h;
	struct pkt pk = { .p_time = 5,
		.p_pktlen = 14 + 40 + 2500,
		.p_flowid = 9,
		.p_svc = 2,
		.p_gso_size = 1000,
		.p_gso_type = PKT_GSO_TCPV4,
		.p_flags = PKT_CSUM_VALID };
	struct mbuf *m;

	host_new(&h, PORT_ETHER);
	m = frame(&h, 0, 60);
	if_rxmeta(h.h_if, m, &pk);
	CHECK(m->m_pkthdr.rcvif == h.h_if);
	CHECK_EQ(m->m_pkthdr.csum_flags, CSUM_DATA_VALID);
	CHECK_EQ(m->m_pkthdr.seg_count, 3);
	CHECK_EQ(m->m_pkthdr.tso_segsz, 1000);
	CHECK_EQ(m->m_pkthdr.tstamp, 5);
	CHECK_EQ(m->m_pkthdr.l3off, 14);
	/* A partial sum is as good as right, and stays partial. */
	pk.p_flags = PKT_CSUM_PARTIAL;
	pk.p_csum_start = 34;
	pk.p_csum_offset = 16;
	if_rxmeta(h.h_if, m, &pk);
	CHECK_EQ(m->m_pkthdr.csum_flags,
	    CSUM_DATA_VALID | CSUM_PARTIAL | CSUM_TSO);
	CHECK_EQ(m->m_pkthdr.csum_start, 20);
	/* One that starts inside the link header is nobody's. */
	pk.p_csum_start = 13;
	pk.p_gso_size = 0;
	pk.p_flags = PKT_CSUM_PARTIAL;
	if_rxmeta(h.h_if, m, &pk);
	CHECK_EQ(m->m_pkthdr.csum_flags, 0);
	CHECK_EQ(m->m_pkthdr.seg_count, 1);
	m_freem(m);
	host_free(&h);
}

TEST(receive_budget)
{
	struct host h;
	int rounds = 0;

	host_new(&h, PORT_ETHER);
	CHECK_EQ(sysctl_set(h.h_s, "net.link.burst", 100), 0);
	for (uint32_t i = 0; i < 250; i++) {
		fake_receives(h.h_fake, fake_frame(h.h_pool, i, 60));
	}
	stack_enter(h.h_s);
	while (netisr_run(h.h_s)) {
		CHECK_EQ(h.h_if->if_data.ipackets, 100 * ++rounds);
	}
	stack_leave(h.h_s);
	CHECK_EQ(rounds, 2);
	CHECK_EQ(h.h_if->if_data.ipackets, 250);
	CHECK_EQ(h.h_if->if_data.ibytes, 250 * 60);
	host_free(&h);
}

TEST(no_ip_version)
{
	struct host h;

	host_new(&h, PORT_RAWIP);
	for (uint32_t v = 0; v < 16; v++) {
		if (v != 4 && v != 6) {
			fake_receives(h.h_fake,
			    fake_frame(h.h_pool, v << 4, 40));
		}
	}
	fake_receives(h.h_fake, pkt_alloc(h.h_pool, 64, 32)); /* empty */
	ls_run(h.h_s, h.h_s->s_now);
	CHECK_EQ(ls_stat(h.h_s, "if.drop.rxversion"), 15);
	host_free(&h);
}

TEST(memory_runs_out)
{
	struct host h;

	host_new(&h, PORT_ETHER);
	mbpool_free(h.h_s->s_mb);
	h.h_s->s_mb = mbpool_new(h.h_s, 0);
	fake_receives(h.h_fake, fake_frame(h.h_pool, 0, 60));
	ls_run(h.h_s, h.h_s->s_now);
	CHECK_EQ(ls_stat(h.h_s, "if.drop.rxnobufs"), 1);
	CHECK_EQ(h.h_if->if_data.iqdrops, 1);
	host_free(&h);
}

TEST(loopback_queue)
{
	struct host h;
	struct ifnet *lo;
	struct mbuf *m;
	int error = 0;
	uint32_t n = 0;

	host_new(&h, PORT_ETHER);
	lo = h.h_s->s_if->ifs_lo;
	stack_enter(h.h_s);
	m = frame(&h, 0, 3000); /* version 0: dropped when it goes up */
	m->m_pkthdr.csum_flags = CSUM_PARTIAL | CSUM_TSO;
	m->m_pkthdr.tso_segsz = 1000;
	CHECK_EQ(looutput(h.h_if, m, NULL, NULL), 0);
	CHECK_EQ(m->m_pkthdr.csum_flags, CSUM_DATA_VALID | CSUM_IP_VALID);
	CHECK_EQ(m->m_flags & M_LOOP, M_LOOP);
	CHECK(m->m_pkthdr.rcvif == h.h_if);
	CHECK(m->m_pkthdr.seg_count >= 3);
	CHECK_EQ(netisr_poll_at(h.h_s), h.h_s->s_now);
	stack_leave(h.h_s);
	CHECK_EQ(ls_stat(h.h_s, "if.drop.rxversion"), 1);
	stack_enter(h.h_s);
	while (error == 0) {
		error = looutput(lo, frame(&h, 0, 60), NULL, NULL);
		n++;
	}
	CHECK_EQ(error, ENOBUFS);
	CHECK_EQ(n, 4097);
	stack_leave(h.h_s); /* within its budget */
	CHECK_EQ(h.h_s->s_if->ifs_loq.mq_len, 4096 - LO_BUDGET);
	ls_run(h.h_s, h.h_s->s_now);
	CHECK_EQ(h.h_s->s_if->ifs_loq.mq_len, 0);
	CHECK_EQ(if_setflags(lo, 0, IFF_UP_), 0);
	CHECK_EQ(looutput(lo, frame(&h, 0, 60), NULL, NULL), ENETDOWN);
	host_free(&h);
}

TESTS(RUN(attaching), RUN(short_takes_keep_the_order), RUN(queue_is_bounded),
    RUN(broken_port), RUN(down_interface), RUN(transmit_metadata),
    RUN(senseless_metadata), RUN(receive_metadata), RUN(receive_budget),
    RUN(no_ip_version), RUN(memory_runs_out), RUN(loopback_queue))
