/*
 * api.h - all of nic that Python (and a C program) may call.
 *
 * Read by the C compiler and, preprocessor lines dropped, by cffi: plain
 * declarations only. Errors are negative errno. Times are nanoseconds.
 */
#ifndef NIC_API_H
#define NIC_API_H

#include <stddef.h>
#include <stdint.h>

struct port;
struct pkt_pool;

struct nic_stats {
	uint64_t rxpkts, rxbytes, rxdrops, rxerrs;
	uint64_t txpkts, txbytes, txdrops, txerrs;
	uint64_t swcsum, swgso;
};

struct nic_info {
	char name[32];
	char kind[16];
	uint32_t caps; /* PORT_* bits */
	uint32_t mtu;
	uint32_t gsomax;
	int link; /* 0 ethernet, 1 raw ip */
	unsigned char mac[6];
	int fd;
};

struct nic_pool_stats {
	uint64_t active; /* buffers handed out */
	uint64_t bytes;	 /* bytes of storage the pool holds */
	uint64_t limit;	 /* bytes it may hold */
	uint64_t fails;	 /* allocations refused at the limit */
};

/* Pools. One per owner of ports; limit in bytes. Freed when the last packet
 * has come back (nic_pool_free only drops the owner's reference). */
struct pkt_pool *nic_pool_new(uint64_t limit);
void nic_pool_free(struct pkt_pool *pool);
void nic_pool_stats(struct pkt_pool *pool, struct nic_pool_stats *out);

/* Backends. On success *out owns the port; nic_close() closes and frees.
 * caps_mask limits the offloads offered and used (PORT_* bits, ~0 for all). */
int nic_lo_open(struct pkt_pool *pool, uint32_t mtu, struct port **out);
/* Two ends; link 0 ethernet, 1 raw ip; qlen packets each way. With threads
 * nonzero each end has an fd and ends may be driven by different threads. */
int nic_feth_open(struct pkt_pool *pool_a, struct pkt_pool *pool_b, int link,
    uint32_t mtu, uint32_t qlen, uint32_t caps_mask, int threads,
    struct port **a, struct port **b);
int nic_tap_open(struct pkt_pool *pool, const char *name, int is_tun,
    int multi_queue, uint32_t caps_mask, struct port **out);
/* promisc 0: only frames for our mac (given or the interface's own) are
 * taken; fanout_group < 0: no fanout; ring nonzero: mmap rings. */
int nic_af_packet_open(struct pkt_pool *pool, const char *ifname,
    const unsigned char *mac, int promisc, int fanout_group, int fanout_mode,
    int ring, uint32_t caps_mask, struct port **out);

/* Wrappers. They own the lower port from then on, also on failure. */
int nic_pcapng_wrap(struct port *lower, const char *path, uint32_t snaplen,
    const char *ifname, uint64_t epoch_offset_ns, struct port **out);
int nic_pcapng_comment(struct port *pcap, const char *text);
int nic_pcapng_flush(struct port *pcap);
struct nic_pcapng_stats {
	uint64_t packets, bytes; /* records made; bytes handed to the file */
	uint64_t lost;	 /* packets not recorded: the file took no more */
	uint64_t errors; /* write calls that failed */
};
int nic_pcapng_stats(struct port *pcap, struct nic_pcapng_stats *out);

struct nic_fault {
	double loss;	   /* 0..1, i.i.d. */
	double ge_p, ge_r; /* Gilbert-Elliott: good to bad, bad to good; 0 off */
	double ge_loss_bad; /* loss in the bad state, default 1 */
	double ge_loss_good;
	double dup, corrupt, reorder; /* probabilities */
	uint64_t reorder_gap_ns;      /* how long a reordered packet is held */
	uint64_t delay_ns, jitter_ns;
	int jitter_dist;     /* 0 uniform, 1 normal, 2 pareto */
	uint64_t rate_bps;   /* bits per second, 0 unlimited */
	uint32_t queue_pkts; /* queue limit at the rate, packets; 0: 1000 */
	uint32_t mtu;	     /* drop frames whose IP part is longer; 0 off */
	int partition;	     /* nonzero: nothing passes */
};
/* dir: 0 transmit, 1 receive, 2 both. Same seed and input: same output. */
int nic_fault_wrap(struct port *lower, uint64_t seed, struct port **out);
int nic_fault_set(struct port *fault, int dir, const struct nic_fault *cfg);
struct nic_fault_stats {
	uint64_t passed, held; /* packets handed on; waiting now */
	/* Dropped, by reason; all of them are in txdrops or rxdrops too. */
	uint64_t lost, burst, queue, mtu, partition, nomem;
	uint64_t duplicated, corrupted, reordered;
};
int nic_fault_stats(struct port *fault, int dir, struct nic_fault_stats *out);

/* A port that hides capabilities of the lower one (caps & mask). */
int nic_capoff_wrap(struct port *lower, uint32_t mask, struct port **out);

/* Class queues (DRR among ten classes, FQ-CoDel inside one) and a rate. While a
 * rate is set super-segments are cut before they are queued. */
struct nic_classq {
	uint64_t rate_bps;  /* bits per second, 0: as fast as the port takes */
	uint32_t burst;	    /* bytes after a pause; 0: what 1 ms is worth */
	uint32_t limit;	    /* packets queued in all; 0: 2048 */
	uint64_t target_ns; /* delay a flow may have; 0: 10 ms */
	uint64_t interval_ns; /* for as long; 0: 100 ms */
	int no_ecn;	      /* nonzero: drop, never mark */
};
int nic_classq_wrap(struct port *lower, const struct nic_classq *cfg,
    struct port **out);
/* From the next packet on; the limit stays as it was made. Any thread. */
int nic_classq_set(struct port *classq, const struct nic_classq *cfg);
struct nic_classq_stats {
	uint64_t txpkts, txbytes; /* sent, or passed without queueing */
	uint64_t overflow;	  /* dropped at the limit */
	uint64_t aqm;		  /* dropped for their delay */
	uint64_t marks;		  /* marked instead, ECN */
	uint64_t suspends;	  /* senders stopped instead */
	uint64_t pkts, bytes;	  /* queued now */
	uint64_t flows;		  /* with something queued */
	uint64_t maxdelay_ns;	  /* longest wait of a packet so far */
};
/* queue: 0 control, 1 voice, 2 video and signalling, ... 8 background,
 * 9 system background. Any thread. */
int nic_classq_stats(struct port *classq, int queue,
    struct nic_classq_stats *out);
struct nic_classq_flow {
	uint32_t flowid;
	uint32_t queue;
	uint32_t flags; /* 1 old, 2 new, 4 large, 8 delay high, 16 suspended */
	uint32_t pkts, bytes; /* queued now */
	uint64_t mindelay_ns; /* least of the last interval */
	uint64_t txpkts, txbytes, drops, marks, suspends;
};
/* Fills up to n, answers how many flows are known, or -errno. Any thread. */
int nic_classq_flows(struct port *classq, struct nic_classq_flow *v, int n);
/* The class of a packet sent by nic_send(), for tests: SVC_* and a flow. */
int nic_send_class(struct port *port, const void *frame, size_t len,
    unsigned int svc, uint32_t flowid, uint64_t now);

void nic_close(struct port *port);
void nic_info(struct port *port, struct nic_info *out);
void nic_stats(struct port *port, struct nic_stats *out);
int nic_set_mtu(struct port *port, uint32_t mtu);
int nic_set_promisc(struct port *port, int on);
int nic_set_mac(struct port *port, const unsigned char *mac);

/* Whole frames by copy, for tests and tools. send: 0, or -errno (-EAGAIN: the
 * port took nothing). recv: bytes, 0 nothing there, or -errno (-EMSGSIZE: len
 * was too short, the frame is gone). */
int nic_send(struct port *port, const void *frame, size_t len, uint64_t now);
long nic_recv(struct port *port, void *buf, size_t len, uint64_t now);
uint64_t nic_poll_at(struct port *port);

/* The same for frames with work left to do: a checksum field that holds the
 * pseudo-header sum (csum), a super-segment (gso_type, a PKT_GSO_*, and
 * gso_size). send: -EINVAL, these do not fit the frame. recv leaves the bytes
 * as they came and says what is left; csum_ok: the checksum was vouched for. */
struct nic_offload {
	int csum, csum_ok;
	uint32_t csum_start, csum_offset;
	uint32_t gso_type, gso_size;
};
int nic_send_offload(struct port *port, const void *frame, size_t len,
    const struct nic_offload *todo, uint64_t now);
long nic_recv_offload(struct port *port, void *buf, size_t len,
    struct nic_offload *todo, uint64_t now);

size_t nic_sizeof_pkt(void); /* compared at import against other packages */
size_t nic_sizeof_port(void);

#endif
