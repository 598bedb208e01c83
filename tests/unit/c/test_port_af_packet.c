/* A packet socket on the kernel's end of a tap: both backends, both ways, in a
 * namespace of its own. */
#include "nic/api.h"
#include "tests/unit/c/frames.h"
#include "tests/unit/c/netns.h"

static const uint8_t DST[6] = { 2, 'A', 'B', 'C', 'D', 'E' };
static const uint8_t OTHER[6] = { 2, 'n', 'o', 'b', 'o', 'd' };

/* A wire: the tap's descriptor on one side, the interface on the other. */
struct wire {
	struct pkt_pool *pool;
	struct port *tap, *apk;
};

static void
wire_open(struct wire *w, uint32_t tap_caps, uint32_t apk_caps, int ring)
{
	w->pool = nic_pool_new(64 << 20);
	CHECK_EQ(nic_tap_open(w->pool, "xsock0", 0, 0, tap_caps, &w->tap), 0);
	netns_up("xsock0");
	CHECK_EQ(nic_af_packet_open(w->pool, "xsock0", DST, 0, -1, 0, ring,
		     apk_caps, &w->apk),
	    0);
}

static void
wire_close(struct wire *w)
{
	struct nic_pool_stats s;

	nic_close(w->apk);
	nic_close(w->tap);
	nic_pool_stats(w->pool, &s);
	CHECK_EQ(s.active, 0);
	nic_pool_free(w->pool);
}

static uint8_t frame[70000];

static void
send_frame(struct port *pt, int v, int proto, uint32_t paylen, uint32_t mss,
    uint32_t piece)
{
	uint32_t len = frame_make(frame, 14, v, proto, paylen);
	struct pkt *p = frame_pkt(pt->pt_pool, frame, len, piece);

	frame_partial(p, 14, v, proto, mss);
	CHECK_EQ(pt->pt_output(pt, &p, 1, 0), 1);
	CHECK_EQ(stat_read(&pt->pt_stats.ps_txerrs), 0);
	CHECK_EQ(stat_read(&pt->pt_stats.ps_txdrops), 0);
}

/* One super-segment comes over whole, as it was sent. */
static void
expect_super(struct port *pt, int v, int proto, uint32_t paylen, uint32_t mss)
{
	static uint8_t got[70000];
	uint32_t len = frame_make(frame, 14, v, proto, paylen);
	struct pkt *p = port_next(pt);

	CHECK(p != NULL);
	CHECK_EQ(p->p_pktlen, len);
	CHECK_EQ(p->p_gso_size, mss);
	CHECK_EQ(p->p_gso_type, proto == 17 ? 5 : v == 4 ? 1 : 4);
	CHECK(p->p_flags & PKT_CSUM_PARTIAL);
	CHECK(p->p_flags & PKT_CSUM_VALID);
	CHECK(pkt_copyout(p, 0, len, got));
	CHECK_MEM(got, frame, len);
	pkt_free(p);
	port_quiet(pt);
}

/* The same in plain frames, sums and all. */
static void
expect_segments(struct port *pt, uint32_t paylen, uint32_t mss)
{
	for (uint32_t off = 0; off < paylen; off += mss) {
		static uint8_t got[70000];
		struct pkt *p = port_next(pt);
		uint32_t n = MIN_OF(mss, paylen - off);

		CHECK(p != NULL);
		CHECK_EQ(p->p_gso_type, PKT_GSO_NONE);
		CHECK_EQ(p->p_flags, 0);
		CHECK(pkt_copyout(p, 0, p->p_pktlen, got));
		frame_verify(got, p->p_pktlen, 14);
		for (uint32_t i = 0; i < n; i++) {
			CHECK_EQ(got[p->p_pktlen - n + i], (off + i) % 251);
		}
		pkt_free(p);
	}
	port_quiet(pt);
}

static void
plain_frames(int ring)
{
	struct wire w;

	wire_open(&w, ~0u, ~0u, ring);
	for (uint32_t n = 0; n < 3000; n += 71) {
		static uint8_t got[70000];
		struct pkt *p;
		uint32_t len;

		if (n > 1400) {
			CHECK_EQ(nic_set_mtu(w.tap, 9000), 0);
			CHECK_EQ(nic_set_mtu(w.apk, 9000), 0);
		}
		for (int way = 0; way < 2; way++) {
			send_frame(way ? w.apk : w.tap, 4, 17, n, 0, 100);
			p = port_next(way ? w.tap : w.apk);
			CHECK(p != NULL);
			len = p->p_pktlen;
			CHECK_EQ(len, 42 + n);
			CHECK_EQ((uintptr_t)(p->p_data + 14) % 4, 0);
			CHECK(pkt_copyout(p, 0, len, got));
			CHECK_MEM(got, frame, len);
			CHECK(p->p_flags & PKT_CSUM_PARTIAL);
			CHECK_EQ(p->p_time, 5);
			pkt_free(p);
		}
	}
	wire_close(&w);
}

TEST(plain)
{
	plain_frames(0);
}

TEST(plain_by_ring)
{
	plain_frames(1);
}

static void
super_segments(int ring)
{
	struct wire w;

	wire_open(&w, ~0u, ~0u, ring);
	for (int v = 4; v <= 6; v += 2) {
		for (int i = 0; i < 40; i++) {
			uint32_t n = 2000 + (uint32_t)i * 1600;

			send_frame(w.tap, v, 6, n, 1400, 4096);
			expect_super(w.apk, v, 6, n, 1400);
			send_frame(w.apk, v, 6, n, 1400, 4096);
			expect_super(w.tap, v, 6, n, 1400);
		}
		if (w.tap->pt_caps & w.apk->pt_caps & PORT_USO) {
			send_frame(w.tap, v, 17, 20000, 1400, 0);
			expect_super(w.apk, v, 17, 20000, 1400);
			send_frame(w.apk, v, 17, 20000, 1400, 0);
			expect_super(w.tap, v, 17, 20000, 1400);
		}
	}
	CHECK_EQ(stat_read(&w.tap->pt_stats.ps_swgso), 0);
	CHECK_EQ(stat_read(&w.apk->pt_stats.ps_swgso), 0);
	wire_close(&w);
}

TEST(super)
{
	super_segments(0);
}

TEST(super_by_ring)
{
	super_segments(1);
}

/* With nothing offered, everything is plain: cut by our door on the way to the
 * kernel, by the kernel for the tap, by capoff behind the packet socket. */
TEST(no_offloads)
{
	struct wire w;

	wire_open(&w, 0, 0, 0);
	CHECK_EQ(w.tap->pt_caps, PORT_BROADCAST);
	CHECK_EQ(w.apk->pt_caps, PORT_BROADCAST);
	send_frame(w.tap, 4, 6, 30000, 1400, 4096);
	CHECK_EQ(stat_read(&w.tap->pt_stats.ps_swgso), 1);
	expect_segments(w.apk, 30000, 1400);
	send_frame(w.apk, 6, 6, 30000, 1400, 4096);
	CHECK_EQ(stat_read(&w.apk->pt_stats.ps_swgso), 1);
	expect_segments(w.tap, 30000, 1400);
	wire_close(&w);
}

TEST(sender_offers_receiver_does_not)
{
	struct wire w;

	wire_open(&w, 0, ~0u, 0);
	send_frame(w.apk, 4, 6, 30000, 1400, 0);
	CHECK_EQ(stat_read(&w.apk->pt_stats.ps_swgso), 0);
	expect_segments(w.tap, 30000, 1400); /* the kernel cut them */
	wire_close(&w);
	wire_open(&w, ~0u, ~(uint32_t)(PORT_RXCSUM | PORT_LRO), 0);
	send_frame(w.tap, 6, 6, 30000, 1400, 0);
	CHECK_EQ(stat_read(&w.tap->pt_stats.ps_swgso), 0);
	expect_segments(w.apk, 30000, 1400); /* capoff did */
	wire_close(&w);
}

static void
aim(uint8_t *b, const uint8_t *mac)
{
	frame_make(b, 14, 4, 17, 10);
	memcpy(b, mac, 6);
}

TEST(filter_by_address)
{
	static const uint8_t group[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct wire w;
	uint8_t b[100], got[100];

	wire_open(&w, ~0u, ~0u, 0);
	aim(b, OTHER);
	CHECK_EQ(nic_send(w.tap, b, 52, 0), 0);
	port_quiet(w.apk);
	aim(b, group);
	CHECK_EQ(nic_send(w.tap, b, 52, 0), 0);
	CHECK_EQ(nic_recv(w.apk, got, 100, 0), 52);
	CHECK_EQ(nic_set_promisc(w.apk, 1), 0);
	aim(b, OTHER);
	CHECK_EQ(nic_send(w.tap, b, 52, 0), 0);
	CHECK_EQ(nic_recv(w.apk, got, 100, 0), 52);
	CHECK_EQ(nic_set_promisc(w.apk, 0), 0);
	CHECK_EQ(nic_send(w.tap, b, 52, 0), 0);
	port_quiet(w.apk);
	CHECK_EQ(nic_set_mac(w.apk, OTHER), 0);
	CHECK_EQ(nic_send(w.tap, b, 52, 0), 0);
	CHECK_EQ(nic_recv(w.apk, got, 100, 0), 52);
	aim(b, DST);
	CHECK_EQ(nic_send(w.tap, b, 52, 0), 0);
	port_quiet(w.apk);
	/* What we send does not come back to us. */
	aim(b, OTHER);
	CHECK_EQ(nic_send(w.apk, b, 52, 0), 0);
	port_quiet(w.apk);
	CHECK_EQ(nic_recv(w.tap, got, 100, 0), 52);
	wire_close(&w);
}

/* The kernel takes the tag out of a frame; without it the frame would seem to
 * be of this network. */
TEST(tagged_frames_are_not_ours)
{
	struct wire w;
	uint8_t b[100], got[100];

	wire_open(&w, ~0u, ~0u, 0);
	aim(b, DST);
	memmove(b + 16, b + 12, 40);
	put_be16(b + 12, 0x8100);
	put_be16(b + 14, 7);
	CHECK_EQ(nic_send(w.tap, b, 56, 0), 0);
	port_quiet(w.apk);
	put_be16(b + 14, 0);
	CHECK_EQ(nic_set_promisc(w.apk, 1), 0);
	CHECK_EQ(nic_send(w.tap, b, 56, 0), 0);
	port_quiet(w.apk);
	aim(b, DST);
	CHECK_EQ(nic_send(w.tap, b, 52, 0), 0);
	CHECK_EQ(nic_recv(w.apk, got, 100, 0), 52);
	wire_close(&w);
}

/* Packets that are kept do not keep the ring from turning. */
TEST(ring_turns)
{
	static struct pkt *held[600];
	struct wire w;

	wire_open(&w, ~0u, ~0u, 1);
	for (int i = 0; i < 600; i++) {
		struct pollfd pfd = { .fd = port_fd(w.apk), .events = POLLIN };

		send_frame(w.tap, 4, 6, 3000, 1000, 0);
		CHECK_EQ(poll(&pfd, 1, 5000), 1);
		CHECK_EQ(w.apk->pt_input(w.apk, &held[i], 1, 1), 1);
		CHECK_EQ(poll(&pfd, 1, 0), 0);
	}
	nic_close(w.apk);
	for (int i = 0; i < 600; i++) {
		uint8_t got[3066];

		CHECK(pkt_copyout(held[i], 0, 3066, got));
		CHECK_MEM(got, frame, 3066);
		pkt_free(held[i]);
	}
	nic_close(w.tap);
	nic_pool_free(w.pool);
}

TEST(no_memory_to_receive)
{
	struct pkt_pool *poor = nic_pool_new(100 << 10);
	struct port *apk;
	struct wire w;
	struct pkt *p;

	wire_open(&w, ~0u, ~0u, 0);
	CHECK_EQ(nic_af_packet_open(poor, "xsock0", DST, 0, -1, 0, 0, ~0u, &apk),
	    0);
	p = pkt_alloc(poor, 50 << 10, 0);
	send_frame(w.tap, 4, 6, 3000, 1000, 0);
	port_quiet(apk);
	CHECK_EQ(stat_read(&apk->pt_stats.ps_rxdrops), 1);
	pkt_free(p);
	send_frame(w.tap, 4, 6, 3000, 1000, 0);
	expect_super(apk, 4, 6, 3000, 1000);
	nic_close(apk);
	nic_pool_free(poor);
	wire_close(&w);
}

TEST(interface_down_and_gone)
{
	struct wire w;
	struct pkt *p;
	int up = -1;

	wire_open(&w, ~0u, ~0u, 0);
	CHECK_EQ(w.apk->pt_ops->po_ctl(w.apk, PORT_CTL_LINK, &up), 0);
	CHECK_EQ(up, 1);
	netns_flags("xsock0", 0, IFF_UP);
	CHECK_EQ(w.apk->pt_ops->po_ctl(w.apk, PORT_CTL_LINK, &up), 0);
	CHECK_EQ(up, 0);
	CHECK_EQ(nic_send(w.apk, frame, 60, 0), 0);
	CHECK_EQ(nic_send(w.tap, frame, 60, 0), 0);
	CHECK_EQ(stat_read(&w.apk->pt_stats.ps_txdrops), 1);
	CHECK_EQ(stat_read(&w.tap->pt_stats.ps_txdrops), 1);
	CHECK_EQ(w.apk->pt_input(w.apk, &p, 1, 0), 0);
	nic_close(w.tap); /* and with it the interface */
	CHECK_EQ(nic_send(w.apk, frame, 60, 0), 0);
	CHECK_EQ(stat_read(&w.apk->pt_stats.ps_txdrops), 2);
	CHECK_EQ(w.apk->pt_ops->po_ctl(w.apk, PORT_CTL_LINK, &up), -ENODEV);
	nic_close(w.apk);
	nic_pool_free(w.pool);
}

TEST(absent)
{
	struct pkt_pool *pool = nic_pool_new(1 << 20);
	struct port *out;

	CHECK_EQ(nic_af_packet_open(pool, "nosuch0", NULL, 0, -1, 0, 0, ~0u,
		     &out),
	    -ENODEV);
	CHECK_EQ(nic_af_packet_open(pool, "", NULL, 0, -1, 0, 0, ~0u, &out),
	    -EINVAL);
	CHECK_EQ(nic_af_packet_open(pool, "a-name-of-more-than-15", NULL, 0, -1,
		     0, 0, ~0u, &out),
	    -ENAMETOOLONG);
	CHECK_EQ(nic_af_packet_open(pool, "lo", (const uint8_t *)"\1abcde", 0,
		     -1, 0, 0, ~0u, &out),
	    -EADDRNOTAVAIL);
	nic_pool_free(pool);
}

TEST(what_it_says_of_itself)
{
	struct nic_info info;
	struct wire w;

	wire_open(&w, ~0u, PORT_TXCSUM, 0);
	nic_info(w.apk, &info);
	CHECK_STR(info.name, "xsock0");
	CHECK_STR(info.kind, "af_packet"); /* although capoff stands before */
	CHECK_EQ(info.caps, PORT_TXCSUM | PORT_BROADCAST);
	CHECK_EQ(info.mtu, 1500);
	CHECK_MEM(info.mac, DST, 6);
	CHECK(info.fd >= 0);
	/* The host's interface keeps its MTU. */
	CHECK_EQ(nic_set_mtu(w.apk, 1400), 0);
	CHECK_EQ(nic_set_mtu(w.apk, 9000), -EMSGSIZE);
	CHECK_EQ(w.apk->pt_mtu, 1400);
	nic_close(w.apk);
	CHECK_EQ(nic_af_packet_open(w.pool, "xsock0", NULL, 0, -1, 0, 0, ~0u,
		     &w.apk),
	    0);
	CHECK_EQ(w.apk->pt_mtu, 1500);
	CHECK(memcmp(w.apk->pt_mac, w.tap->pt_mac, 6) != 0);
	wire_close(&w);
}

TEST(fanout)
{
	struct port *second;
	struct wire w;

	wire_open(&w, ~0u, ~0u, 0);
	nic_close(w.apk);
	CHECK_EQ(nic_af_packet_open(w.pool, "xsock0", DST, 0, 7, 1, 0, ~0u,
		     &w.apk),
	    0);
	CHECK_EQ(nic_af_packet_open(w.pool, "xsock0", DST, 0, 7, 1, 0, ~0u,
		     &second),
	    0);
	for (int i = 0; i < 10; i++) { /* mode 1: turn by turn */
		send_frame(w.tap, 4, 6, 3000, 1000, 0);
	}
	for (int i = 0; i < 5; i++) {
		pkt_free(port_next(w.apk));
		pkt_free(port_next(second));
	}
	port_quiet(w.apk);
	port_quiet(second);
	CHECK_EQ(stat_read(&w.apk->pt_stats.ps_rxpkts), 5);
	CHECK_EQ(stat_read(&second->pt_stats.ps_rxpkts), 5);
	nic_close(second);
	wire_close(&w);
}

int
main(int argc, char **argv)
{
	static const struct check_test tests[] = { RUN(plain),
		RUN(plain_by_ring), RUN(super), RUN(super_by_ring),
		RUN(no_offloads), RUN(sender_offers_receiver_does_not),
		RUN(filter_by_address), RUN(tagged_frames_are_not_ours),
		RUN(ring_turns), RUN(no_memory_to_receive),
		RUN(interface_down_and_gone), RUN(absent),
		RUN(what_it_says_of_itself), RUN(fanout) };

	if (!netns_enter()) {
		return SKIPPED;
	}
	netns_no_ipv6();
	return check_main(tests, NITEMS(tests), argc, argv);
}
