/* Hidden capabilities, over the loopback that has them all. */
#include "nic/api.h"
#include "tests/unit/c/frames.h"

static uint8_t bytes[70000];

static struct port *
masked(struct pkt_pool *pool, uint32_t mask)
{
	struct port *lo, *pt;

	CHECK_EQ(nic_lo_open(pool, 65535, &lo), 0);
	CHECK_EQ(nic_capoff_wrap(lo, mask, &pt), 0);
	CHECK(pt->pt_lower == lo);
	return pt;
}

static void
done(struct port *pt)
{
	struct pkt_pool *pool = pt->pt_pool;
	struct nic_pool_stats s;

	nic_close(pt);
	nic_pool_stats(pool, &s);
	CHECK_EQ(s.active, 0);
	nic_pool_free(pool);
}

static struct pkt *
super(struct pkt_pool *pool, uint32_t paylen, uint32_t mss, uint32_t flowid)
{
	uint32_t len = frame_make(bytes, 0, 4, 6, paylen);
	struct pkt *p = frame_pkt(pool, bytes, len, 1000);

	frame_partial(p, 0, 4, 6, mss);
	p->p_flowid = flowid;
	return p;
}

TEST(offers)
{
	struct port *pt = masked(nic_pool_new(1 << 20), PORT_TSO4 | PORT_SG);

	CHECK_EQ(pt->pt_caps, PORT_SG); /* no TSO without TXCSUM */
	CHECK_STR(pt->pt_ops->po_name, "lo");
	CHECK_EQ(pt->pt_mtu, 65535);
	CHECK_EQ(nic_set_mtu(pt, 1400), 0);
	CHECK_EQ(pt->pt_lower->pt_mtu, 1400);
	done(pt);
	pt = masked(nic_pool_new(1 << 20), ~0u);
	CHECK_EQ(pt->pt_caps, pt->pt_lower->pt_caps);
	done(pt);
}

/* What the lower port merged comes up cut, whole sums, in order, however few
 * the caller takes at a time; the rest waits, or goes with the port. */
TEST(cuts_what_it_receives)
{
	for (int n = 1; n < 40; n += 7) {
		struct port *pt = masked(nic_pool_new(16 << 20), 0);
		struct port *lo = pt->pt_lower;
		struct pkt *p, *v[40];
		int got = 0;

		for (uint32_t i = 0; i < 3; i++) {
			p = super(pt->pt_pool, 14000, 1000, i);
			CHECK_EQ(lo->pt_output(lo, &p, 1, 0), 1);
		}
		while (got < 39) {
			int k = pt->pt_input(pt, v, n, 3);

			CHECK(k > 0 && k <= n);
			for (int i = 0; i < k; i++, got++) {
				uint32_t len = v[i]->p_pktlen;

				CHECK_EQ(v[i]->p_flowid, got / 14);
				CHECK_EQ(v[i]->p_flags, 0);
				CHECK_EQ(v[i]->p_gso_type, 0);
				CHECK(pkt_copyout(v[i], 0, len, bytes));
				frame_verify(bytes, len, 0);
				pkt_free(v[i]);
			}
			CHECK_EQ(nic_poll_at(pt) == 0, got < 42);
		}
		done(pt);
	}
}

TEST(completes_what_it_receives)
{
	struct port *pt = masked(nic_pool_new(1 << 20), PORT_SG | PORT_LRO);
	struct port *lo = pt->pt_lower;
	struct pkt *p = super(pt->pt_pool, 100, 0, 0), *shared;

	CHECK_EQ(lo->pt_output(lo, &p, 1, 0), 1);
	p = super(pt->pt_pool, 200, 0, 0);
	pkt_ext_hold(p->p_ext);
	shared = pkt_wrap(pt->pt_pool, p->p_data, p->p_len, p->p_ext);
	CHECK_EQ(lo->pt_output(lo, &p, 1, 0), 1);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(pt->pt_input(pt, &p, 1, 0), 1);
		CHECK_EQ(p->p_flags, 0);
		CHECK(pkt_copyout(p, 0, p->p_pktlen, bytes));
		frame_verify(bytes, p->p_pktlen, 0);
		pkt_free(p);
	}
	frame_make(bytes, 0, 4, 6, 200);
	CHECK_MEM(shared->p_data, bytes, 252);
	pkt_free(shared);
	done(pt);
}

TEST(drops_what_cannot_be_cut)
{
	struct port *pt = masked(nic_pool_new(1 << 20), 0);
	struct port *lo = pt->pt_lower;
	struct pkt *p = super(pt->pt_pool, 5000, 1000, 0);

	p->p_data[0] = 0;
	CHECK_EQ(lo->pt_output(lo, &p, 1, 0), 1);
	p = super(pt->pt_pool, 100, 0, 0);
	p->p_csum_start = 9000;
	CHECK_EQ(lo->pt_output(lo, &p, 1, 0), 1);
	CHECK_EQ(pt->pt_input(pt, &p, 1, 0), 0);
	CHECK_EQ(pt->pt_input(pt, &p, 1, 0), 0);
	CHECK_EQ(stat_read(&pt->pt_stats.ps_rxerrs), 2);
	done(pt);
}

TEST(finishes_what_it_sends)
{
	struct port *pt = masked(nic_pool_new(1 << 20), 0);
	struct port *lo = pt->pt_lower;
	struct pkt *p = super(pt->pt_pool, 5000, 1000, 0), *v[9];

	CHECK_EQ(pt->pt_output(pt, &p, 1, 0), 1);
	CHECK_EQ(lo->pt_input(lo, v, 9, 0), 5);
	for (int i = 0; i < 5; i++) {
		CHECK(v[i]->p_next == NULL);
		frame_verify(v[i]->p_data, v[i]->p_pktlen, 0);
		pkt_free(v[i]);
	}
	CHECK_EQ(stat_read(&pt->pt_stats.ps_swgso), 1);
	CHECK_EQ(stat_read(&pt->pt_stats.ps_txpkts), 5);
	done(pt);
}

TESTS(RUN(offers), RUN(cuts_what_it_receives), RUN(completes_what_it_receives),
    RUN(drops_what_cannot_be_cut), RUN(finishes_what_it_sends))
