/* The transmit door over a port that takes as little as it likes. */
#include "nic/api.h"
#include "tests/unit/c/frames.h"

#define SINK_MAX 256

/* Takes sk_room packets and then none; keeps what it took. */
struct sink {
	struct port sk_port;
	int sk_room, sk_error, sk_calls;
	uint32_t sk_n;
	struct pkt *sk_got[SINK_MAX];
};

static int
sink_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct sink *sk = CONTAINER_OF(pt, struct sink, sk_port);
	int k = MIN_OF(n, sk->sk_room);

	(void)now;
	sk->sk_calls++;
	CHECK(n > 0 && n <= PORT_BURST);
	if (sk->sk_error != 0) {
		return sk->sk_error;
	}
	for (int i = 0; i < k; i++) {
		CHECK(sk->sk_n < SINK_MAX);
		sk->sk_got[sk->sk_n++] = v[i];
	}
	sk->sk_room -= k;
	return k;
}

static const struct port_ops sink_ops = { .po_name = "sink", .po_tx = sink_tx };

static struct pkt_pool *
sink_open(struct sink *sk, uint32_t caps, int room)
{
	struct pkt_pool *pool = nic_pool_new(16 << 20);

	memset(sk, 0, sizeof(*sk));
	port_setup(&sk->sk_port, &sink_ops, pool, "sink");
	sk->sk_port.pt_link = PORT_ETHER;
	sk->sk_port.pt_mtu = 1500;
	sk->sk_port.pt_gsomax = 65535;
	sk->sk_port.pt_caps = caps;
	sk->sk_room = room;
	return pool;
}

static void
sink_close(struct sink *sk)
{
	struct pkt_pool *pool = sk->sk_port.pt_pool;
	struct nic_pool_stats s;

	for (uint32_t i = 0; i < sk->sk_n; i++) {
		pkt_free(sk->sk_got[i]);
	}
	port_fini(&sk->sk_port);
	nic_pool_stats(pool, &s);
	CHECK_EQ(s.active, 0);
	nic_pool_free(pool);
}

static struct pkt *
tcp(struct sink *sk, uint32_t paylen, uint32_t mss, uint32_t piece,
    uint32_t flowid)
{
	static uint8_t b[70000];
	uint32_t len = frame_make(b, 14, 4, 6, paylen);
	struct pkt *p = frame_pkt(sk->sk_port.pt_pool, b, len, piece);

	frame_partial(p, 14, 4, 6, mss);
	p->p_flowid = flowid;
	return p;
}

static int
output(struct sink *sk, struct pkt **v, int n)
{
	return sk->sk_port.pt_output(&sk->sk_port, v, n, 0);
}

TEST(capable_port_gets_them_untouched)
{
	struct sink sk;
	struct pkt *v[3];

	sink_open(&sk, PORT_OFFLOADS, 100);
	v[0] = tcp(&sk, 100, 0, 0, 1);
	v[1] = tcp(&sk, 30000, 1448, 4096, 2);
	v[2] = tcp(&sk, 0, 0, 0, 3);
	CHECK_EQ(output(&sk, v, 3), 3);
	CHECK_EQ(sk.sk_calls, 1);
	for (int i = 0; i < 3; i++) {
		CHECK(sk.sk_got[i] == v[i]);
		CHECK(v[i]->p_flags & PKT_CSUM_PARTIAL);
	}
	CHECK_EQ(sk.sk_port.pt_stats.ps_txpkts, 3);
	CHECK_EQ(sk.sk_port.pt_stats.ps_swcsum, 0);
	CHECK_EQ(sk.sk_port.pt_stats.ps_swgso, 0);
	sink_close(&sk);
}

TEST(plain_port_gets_plain_frames)
{
	struct sink sk;
	struct pkt *v[3];
	uint64_t bytes = 0;

	sink_open(&sk, 0, 100);
	v[0] = tcp(&sk, 100, 0, 0, 1);
	v[1] = tcp(&sk, 3000, 1448, 400, 2);
	v[2] = tcp(&sk, 1000, 0, 54, 3);
	CHECK_EQ(output(&sk, v, 3), 3);
	CHECK_EQ(sk.sk_n, 5);
	for (uint32_t i = 0; i < sk.sk_n; i++) {
		struct pkt *p = sk.sk_got[i];

		CHECK(p->p_next == NULL);
		CHECK_EQ(p->p_flags & PKT_CSUM_PARTIAL, 0);
		CHECK_EQ(p->p_flowid, i == 0 ? 1 : i < 4 ? 2 : 3);
		frame_verify(p->p_data, p->p_pktlen, 14);
		bytes += p->p_pktlen;
	}
	CHECK_EQ(sk.sk_port.pt_stats.ps_txpkts, 5);
	CHECK_EQ(sk.sk_port.pt_stats.ps_txbytes, bytes);
	CHECK_EQ(sk.sk_port.pt_stats.ps_swcsum, 5);
	CHECK_EQ(sk.sk_port.pt_stats.ps_swgso, 1);
	sink_close(&sk);
}

/* However little the port takes at a time: all arrive, once, in order. */
TEST(short_takes_lose_nothing)
{
	for (int step = 1; step < 9; step++) {
		struct sink sk;
		struct pkt *v[6], **at = v;
		int left = 6;
		uint32_t last = 0, n[7] = { 0 };

		sink_open(&sk, step % 2 ? PORT_SG : 0, 0);
		for (uint32_t i = 0; i < 6; i++) {
			v[i] = tcp(&sk, i % 2 ? 14480 : 10, i % 2 ? 1448 : 0, 0,
			    i + 1);
		}
		for (int turn = 0; left > 0 || sk.sk_port.pt_npend > 0; turn++) {
			int k;

			CHECK(turn < 100);
			k = output(&sk, at, left);
			CHECK(k >= 0 && k <= left);
			at += k;
			left -= k;
			sk.sk_room = step;
		}
		CHECK_EQ(sk.sk_n, 33);
		for (uint32_t i = 0; i < sk.sk_n; i++) {
			uint32_t flow = sk.sk_got[i]->p_flowid;

			CHECK(flow >= last && flow <= 6);
			last = flow;
			n[flow]++;
		}
		for (uint32_t i = 1; i < 7; i++) {
			CHECK_EQ(n[i], i % 2 ? 1 : 10);
		}
		CHECK_EQ(sk.sk_port.pt_stats.ps_txpkts, 33);
		sink_close(&sk);
	}
}

TEST(errors_take_nothing)
{
	struct sink sk;
	struct pkt *v[2];

	sink_open(&sk, PORT_OFFLOADS, 100);
	v[0] = tcp(&sk, 10, 0, 0, 1);
	v[1] = tcp(&sk, 10, 0, 0, 1);
	sk.sk_error = -ENETDOWN;
	CHECK_EQ(output(&sk, v, 2), -ENETDOWN);
	CHECK_EQ(sk.sk_port.pt_stats.ps_txpkts, 0);
	sk.sk_error = 0;
	CHECK_EQ(output(&sk, v, 2), 2);
	sink_close(&sk);
}

TEST(nonsense_is_dropped_and_counted)
{
	struct sink sk;
	struct pkt *v[3];

	sink_open(&sk, 0, 100);
	v[0] = tcp(&sk, 3000, 1448, 0, 1);
	v[0]->p_gso_type = 77;
	v[1] = tcp(&sk, 10, 0, 0, 1);
	v[1]->p_csum_start = 5000;
	v[2] = tcp(&sk, 3000, 1448, 0, 1);
	v[2]->p_gso_type = PKT_GSO_UDP_L4;
	CHECK_EQ(output(&sk, v, 3), 3);
	CHECK_EQ(sk.sk_n, 0);
	CHECK_EQ(sk.sk_port.pt_stats.ps_txerrs, 3);
	CHECK_EQ(sk.sk_port.pt_stats.ps_txpkts, 0);
	sink_close(&sk);
}

/* A checksum in storage that others see is completed in a copy. */
TEST(shared_storage_is_not_written)
{
	struct sink sk;
	struct pkt *p, *twin;
	uint8_t before[64];

	sink_open(&sk, PORT_SG, 100);
	p = tcp(&sk, 10, 0, 0, 1);
	pkt_ext_hold(p->p_ext);
	twin = pkt_wrap(sk.sk_port.pt_pool, p->p_data, p->p_len, p->p_ext);
	memcpy(before, p->p_data, 64);
	CHECK_EQ(output(&sk, &p, 1), 1);
	CHECK_MEM(twin->p_data, before, 64);
	frame_verify(sk.sk_got[0]->p_data, sk.sk_got[0]->p_pktlen, 14);
	pkt_free(twin);
	sink_close(&sk);
}

TEST(longer_than_the_port_takes)
{
	struct sink sk;
	struct pkt *p;

	sink_open(&sk, PORT_OFFLOADS, 100);
	sk.sk_port.pt_gsomax = 20000;
	p = tcp(&sk, 30000, 1000, 0, 1);
	CHECK_EQ(output(&sk, &p, 1), 1);
	CHECK_EQ(sk.sk_n, 30);
	CHECK(sk.sk_got[0]->p_flags & PKT_CSUM_PARTIAL);
	CHECK(sk.sk_got[0]->p_next != NULL);
	sink_close(&sk);
}

TESTS(RUN(capable_port_gets_them_untouched), RUN(plain_port_gets_plain_frames),
    RUN(short_takes_lose_nothing), RUN(errors_take_nothing),
    RUN(nonsense_is_dropped_and_counted), RUN(shared_storage_is_not_written),
    RUN(longer_than_the_port_takes))
