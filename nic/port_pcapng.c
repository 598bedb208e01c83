/*
 * port_pcapng.c - a port around a port that writes what passes to a file.
 *
 * The format is pcapng (draft-ietf-opsawg-pcapng): one section, one interface
 * with nanosecond time stamps, an enhanced packet block for each packet with
 * its direction and kind of destination, and comments.
 *
 * A capture shows what the packet means, not the state it happens to be in
 * between two halves of the offload machinery:
 *  - a checksum left to the port is finished in the record (the packet itself
 *    is not touched);
 *  - a super-segment is one record, its IP and UDP lengths and its checksum
 *    those of one long packet. It was or will be cut elsewhere.
 *
 * Records go into a buffer, which goes to the file when it is full, when asked
 * for, and at the end. A file that takes no more costs records, never traffic:
 * whole records are dropped and counted, a block half written stays in the
 * buffer, so that the file is sound whenever the disk has room again.
 *
 * A packet is recorded before the lower port has it, for afterwards it is
 * gone; the records of those it did not take are taken back.
 *
 * The driver's thread is one; the mutex is for those who flush or comment the
 * capture of a running port from another.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nic/api.h"
#include "nic/offload.h"
#include "nic/pkt_pool.h"
#include "nic/port_impl.h"

#define PCAPNG_BUF (1u << 20)  /* bytes waiting for the file */
#define PCAPNG_SNAPLEN 262144u /* also the most that a record may hold */
#define PCAPNG_COMMENTS 16384u /* bytes of comments for one packet */
#define PCAPNG_RETRY_NS                                                        \
	100000000u /* before a file that failed is tried again */

/* Block types and options, sections 4 and 3.5 of the draft. */
#define PCAPNG_SHB 0x0a0d0d0au
#define PCAPNG_IDB 1u
#define PCAPNG_EPB 6u
#define PCAPNG_MAGIC 0x1a2b3c4du
#define OPT_END 0
#define OPT_COMMENT 1
#define SHB_USERAPPL 4
#define IF_NAME 2
#define IF_MACADDR 6
#define IF_TSRESOL 9
#define EPB_FLAGS 2
#define EPB_IN 1u
#define EPB_OUT 2u
#define EPB_UNICAST (1u << 2)
#define EPB_MULTICAST (2u << 2)
#define EPB_BROADCAST (3u << 2)
#define EPB_HDR 28u		/* to the first byte of the packet */
#define EPB_TAIL (8u + 4u + 4u) /* flags, end of options, total length */
#define LINKTYPE_ETHERNET 1
#define LINKTYPE_RAW 101

#define PROTO_TCP 6

struct pcapng_port {
	struct port pc_port;
	pthread_mutex_t pc_mtx; /* everything below */
	int pc_fd;
	uint32_t pc_snaplen;
	uint64_t pc_epoch; /* added to now: ns since 1970 */
	uint64_t pc_retry; /* not before this is the file tried again */
	uint8_t *pc_buf;
	uint32_t pc_len;		  /* bytes in it */
	uint8_t pc_opts[PCAPNG_COMMENTS]; /* for the next packet */
	uint32_t pc_optlen;
	struct nic_pcapng_stats pc_stats;
};

static const struct port_ops pcapng_ops;

static struct pcapng_port *
pcapng_of(struct port *pt)
{
	return CONTAINER_OF(pt, struct pcapng_port, pc_port);
}

/* The nearest capture at or below pt, or NULL. */
static struct pcapng_port *
pcapng_find(struct port *pt)
{
	while (pt != NULL && pt->pt_ops != &pcapng_ops) {
		pt = pt->pt_lower;
	}
	return pt != NULL ? pcapng_of(pt) : NULL;
}

/* The buffer: append, and hand to the file. */

/* Network order; what does not fit is written as 0. */
static void
put16be(uint8_t *b, uint32_t v)
{
	v = v <= UINT16_MAX ? v : 0;
	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

static uint32_t
pad4(uint32_t n)
{
	return (n + 3) & ~3u;
}

/* Room is the caller's business. */
static void
pcapng_put(struct pcapng_port *pc, const void *data, uint32_t len)
{
	memcpy(pc->pc_buf + pc->pc_len, data, len);
	memset(pc->pc_buf + pc->pc_len + len, 0, pad4(len) - len);
	pc->pc_len += pad4(len);
}

static void
pcapng_put32(struct pcapng_port *pc, uint32_t v)
{
	pcapng_put(pc, &v, sizeof(v));
}

static void
pcapng_option(struct pcapng_port *pc, uint16_t code, const void *data,
    uint16_t len)
{
	const uint16_t head[2] = { code, len };

	pcapng_put(pc, head, sizeof(head));
	pcapng_put(pc, data, len);
}

/* A block ends with its length, which also stands behind its type. */
static void
pcapng_endblock(struct pcapng_port *pc, uint32_t start)
{
	uint32_t len = pc->pc_len + 4 - start;

	memcpy(pc->pc_buf + start + 4, &len, sizeof(len));
	pcapng_put32(pc, len);
}

/* All to the file: 0 or -errno, the rest then stays for another time. */
static int
pcapng_flush(struct pcapng_port *pc)
{
	uint32_t done = 0;
	ssize_t n;
	int error = 0;

	while (done < pc->pc_len) {
		n = write(pc->pc_fd, pc->pc_buf + done, pc->pc_len - done);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			error = n < 0 ? -errno : -EIO;
			pc->pc_stats.errors++;
			break;
		}
		done += (uint32_t)n;
	}
	pc->pc_stats.bytes += done;
	pc->pc_len -= done;
	memmove(pc->pc_buf, pc->pc_buf + done, pc->pc_len);
	return error;
}

static bool
pcapng_fits(const struct pcapng_port *pc, uint32_t need)
{
	return PCAPNG_BUF - pc->pc_len >= need;
}

/* Make room through the file, unless it refused a moment ago. */
static bool
pcapng_room(struct pcapng_port *pc, uint32_t need, uint64_t now)
{
	if (pcapng_fits(pc, need)) {
		return true;
	}
	if (now < pc->pc_retry) {
		return false;
	}
	if (pcapng_flush(pc) != 0) {
		pc->pc_retry = now + PCAPNG_RETRY_NS;
	}
	return pcapng_fits(pc, need);
}

static void
pcapng_header(struct pcapng_port *pc, const char *ifname)
{
	const struct port *pt = &pc->pc_port;
	const uint16_t version[2] = { 1, 0 };
	const uint16_t link[2] = {
		pt->pt_link == PORT_ETHER ? LINKTYPE_ETHERNET : LINKTYPE_RAW, 0
	};
	const uint64_t unknown = UINT64_MAX;
	const uint8_t nano = 9; /* 10^-9 s */
	uint32_t start = pc->pc_len;
	size_t namelen = strnlen(ifname, 255);

	pcapng_put32(pc, PCAPNG_SHB);
	pcapng_put32(pc, 0);
	pcapng_put32(pc, PCAPNG_MAGIC);
	pcapng_put(pc, version, sizeof(version));
	pcapng_put(pc, &unknown, sizeof(unknown));
	pcapng_option(pc, SHB_USERAPPL, "xsock", 5);
	pcapng_put32(pc, OPT_END);
	pcapng_endblock(pc, start);

	start = pc->pc_len;
	pcapng_put32(pc, PCAPNG_IDB);
	pcapng_put32(pc, 0);
	pcapng_put(pc, link, sizeof(link));
	pcapng_put32(pc, pc->pc_snaplen);
	pcapng_option(pc, IF_NAME, ifname, (uint16_t)namelen);
	if (pt->pt_link == PORT_ETHER) {
		pcapng_option(pc, IF_MACADDR, pt->pt_mac, ETHER_ADDR_LEN);
	}
	pcapng_option(pc, IF_TSRESOL, &nano, 1);
	pcapng_put32(pc, OPT_END);
	pcapng_endblock(pc, start);
}

/* One packet. */

/* Lengths and checksum of a super-segment as if it were one long packet. */
static void
pcapng_finish_gso(const struct pkt *p, struct offload_hdr *oh)
{
	uint8_t *ip = oh->oh_bytes + oh->oh_l3, *th = oh->oh_bytes + oh->oh_l4;
	uint32_t l4len = p->p_pktlen - oh->oh_l4;
	uint8_t *field = th + (oh->oh_proto == PROTO_TCP ? 16 : 6);
	uint64_t sum;
	uint16_t folded;

	/* What a field cannot say it leaves open with 0 (RFC 2675, 3). */
	if (oh->oh_version == 4) {
		put16be(ip + 2, p->p_pktlen - oh->oh_l3);
		memset(ip + 10, 0, 2);
		folded =
		    (uint16_t)~csum_fold(csum_add(ip, oh->oh_l4 - oh->oh_l3, 0));
		memcpy(ip + 10, &folded, 2);
	} else {
		put16be(ip + 4, p->p_pktlen - oh->oh_l3 - 40);
	}
	if (oh->oh_proto != PROTO_TCP) {
		put16be(th + 4, l4len);
	}
	memset(field, 0, 2);
	sum = csum_pseudo(ip, oh->oh_version, oh->oh_proto, l4len);
	sum = csum_add(th, oh->oh_end - oh->oh_l4, csum_fold(sum));
	sum = csum_fold(sum) +
	    csum_fold(csum_pkt(p, oh->oh_end, p->p_pktlen - oh->oh_end));
	folded = (uint16_t)~csum_fold(sum);
	if (folded == 0 && oh->oh_proto != PROTO_TCP) {
		folded = 0xffff; /* UDP: 0 says that there is none */
	}
	memcpy(field, &folded, 2);
}

/* Put into the record, cap bytes at b, what the packet leaves to a port. */
static void
pcapng_finish(const struct pcapng_port *pc, const struct pkt *p, uint8_t *b,
    uint32_t cap)
{
	uint32_t at = (uint32_t)p->p_csum_start + p->p_csum_offset;
	struct offload_hdr oh;
	uint16_t sum;

	if (p->p_gso_type != PKT_GSO_NONE &&
	    offload_parse(p, port_l2len(&pc->pc_port), &oh) == 0) {
		pcapng_finish_gso(p, &oh);
		memcpy(b, oh.oh_bytes, MIN_OF(cap, oh.oh_end));
		return;
	}
	if ((p->p_flags & PKT_CSUM_PARTIAL) && at + 2 <= cap) {
		sum = (uint16_t)~csum_fold(csum_pkt(p, p->p_csum_start,
		    p->p_pktlen - p->p_csum_start));
		if (sum == 0 && p->p_csum_offset == 6) {
			sum = 0xffff; /* UDP: 0 says that there is none */
		}
		memcpy(b + at, &sum, 2);
	}
}

static uint32_t
pcapng_flags(const struct pcapng_port *pc, const struct pkt *p, uint32_t dir)
{
	static const uint8_t all[ETHER_ADDR_LEN] = { 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff };
	uint8_t dst[ETHER_ADDR_LEN];

	if (pc->pc_port.pt_link != PORT_ETHER ||
	    !pkt_copyout(p, 0, ETHER_ADDR_LEN, dst)) {
		return dir;
	}
	if (!(dst[0] & 1)) {
		return dir | EPB_UNICAST;
	}
	return dir |
	    (memcmp(dst, all, sizeof(dst)) == 0 ? EPB_BROADCAST : EPB_MULTICAST);
}

static uint32_t
pcapng_caplen(const struct pcapng_port *pc, const struct pkt *p)
{
	return MIN_OF(p->p_pktlen, pc->pc_snaplen);
}

/* Bytes that the record of p takes, comments included. */
static uint32_t
pcapng_need(const struct pcapng_port *pc, const struct pkt *p)
{
	return EPB_HDR + pad4(pcapng_caplen(pc, p)) + EPB_TAIL + pc->pc_optlen;
}

/* There must be room. optlen: bytes of pc_opts that go with it. */
static void
pcapng_record(struct pcapng_port *pc, const struct pkt *p, uint32_t dir,
    uint32_t optlen, uint64_t now)
{
	uint32_t start = pc->pc_len, cap = pcapng_caplen(pc, p);
	uint32_t flags = pcapng_flags(pc, p, dir);
	uint64_t when = now + pc->pc_epoch;
	uint8_t *b;

	pcapng_put32(pc, PCAPNG_EPB);
	pcapng_put32(pc, 0);
	pcapng_put32(pc, 0); /* the only interface */
	pcapng_put32(pc, (uint32_t)(when >> 32));
	pcapng_put32(pc, (uint32_t)when);
	pcapng_put32(pc, cap);
	pcapng_put32(pc, p->p_pktlen);
	b = pc->pc_buf + pc->pc_len;
	(void)pkt_copyout(p, 0, cap, b);
	memset(b + cap, 0, pad4(cap) - cap);
	pcapng_finish(pc, p, b, cap);
	pc->pc_len += pad4(cap);
	pcapng_option(pc, EPB_FLAGS, &flags, sizeof(flags));
	pcapng_put(pc, pc->pc_opts, optlen);
	pcapng_put32(pc, OPT_END);
	pcapng_endblock(pc, start);
}

static int
pcapng_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct pcapng_port *pc = pcapng_of(pt);
	int i, k = pt->pt_lower->pt_input(pt->pt_lower, v, n, now);

	if (k <= 0) {
		return k;
	}
	pthread_mutex_lock(&pc->pc_mtx);
	for (i = 0; i < k; i++) {
		if (!pcapng_room(pc, pcapng_need(pc, v[i]), now)) {
			pc->pc_stats.lost++;
			continue;
		}
		pcapng_record(pc, v[i], EPB_IN, pc->pc_optlen, now);
		pc->pc_optlen = 0;
		pc->pc_stats.packets++;
	}
	pthread_mutex_unlock(&pc->pc_mtx);
	return k;
}

/*
 * Record and send as many packets as the buffer has room for, one at least.
 * Answers like po_tx; *all is set if the lower port took all it was offered.
 */
static int
pcapng_txsome(struct pcapng_port *pc, struct pkt **v, int n, uint64_t now,
    bool *all)
{
	struct port *lower = pc->pc_port.pt_lower;
	uint32_t end[PORT_BURST], mark = pc->pc_len, optlen = pc->pc_optlen;
	int i, k, lost = 0, commented = -1;

	if (!pcapng_room(pc, pcapng_need(pc, v[0]), now)) {
		/* The record is lost, the packet is not. */
		n = 1;
		lost = 1;
	}
	mark = pc->pc_len;
	for (i = 0; i < n && i < PORT_BURST && lost == 0; i++) {
		if (!pcapng_fits(pc, pcapng_need(pc, v[i]))) {
			break;
		}
		pcapng_record(pc, v[i], EPB_OUT, optlen, now);
		commented = optlen != 0 ? i : commented;
		optlen = 0;
		end[i] = pc->pc_len;
	}
	n = lost != 0 ? 1 : i;
	k = lower->pt_output(lower, v, n, now);
	*all = k == n;
	if (lost != 0) {
		pc->pc_stats.lost += k > 0 ? 1 : 0;
		return k;
	}
	pc->pc_len = k > 0 ? end[k - 1] : mark;
	pc->pc_stats.packets += (uint64_t)(k > 0 ? k : 0);
	if (commented >= 0 && commented < k) {
		pc->pc_optlen = 0;
	}
	return k;
}

static int
pcapng_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct pcapng_port *pc = pcapng_of(pt);
	bool all = true;
	int done = 0, k = 0;

	pthread_mutex_lock(&pc->pc_mtx);
	while (done < n && all) {
		k = pcapng_txsome(pc, v + done, n - done, now, &all);
		done += k > 0 ? k : 0;
	}
	pthread_mutex_unlock(&pc->pc_mtx);
	return done == 0 && k < 0 ? k : done;
}

static int
pcapng_ctl(struct port *pt, int cmd, void *arg)
{
	struct port *lower = pt->pt_lower;

	return lower->pt_ops->po_ctl != NULL ?
	    lower->pt_ops->po_ctl(lower, cmd, arg) :
	    -EOPNOTSUPP;
}

static int
pcapng_fd(struct port *pt)
{
	return port_fd(pt->pt_lower);
}

static uint64_t
pcapng_poll_at(struct port *pt)
{
	return port_poll_at(pt->pt_lower);
}

static void
pcapng_close(struct port *pt)
{
	struct pcapng_port *pc = pcapng_of(pt);

	(void)pcapng_flush(pc); /* nobody is left to tell */
	(void)close(pc->pc_fd);
	port_fini(pt);
	nic_close(pt->pt_lower);
	pthread_mutex_destroy(&pc->pc_mtx);
	free(pc->pc_buf);
	free(pc);
}

static const struct port_ops pcapng_ops = {
	.po_name = "pcapng",
	.po_rx = pcapng_rx,
	.po_tx = pcapng_tx,
	.po_fd = pcapng_fd,
	.po_poll_at = pcapng_poll_at,
	.po_ctl = pcapng_ctl,
	.po_close = pcapng_close,
};

int
nic_pcapng_wrap(struct port *lower, const char *path, uint32_t snaplen,
    const char *ifname, uint64_t epoch_offset_ns, struct port **out)
{
	struct pcapng_port *pc = calloc(1, sizeof(*pc));
	int error = -ENOMEM;

	if (pc == NULL) {
		nic_close(lower);
		return error;
	}
	pc->pc_fd = -1;
	pc->pc_buf = malloc(PCAPNG_BUF);
	if (pc->pc_buf == NULL) {
		goto fail;
	}
	/* Not even a FIFO makes traffic wait. What people send and receive
	 * is nobody else's to read: 0600. */
	pc->pc_fd = open(path,
	    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
	    0600);
	if (pc->pc_fd < 0) {
		error = -errno;
		goto fail;
	}
	pthread_mutex_init(&pc->pc_mtx, NULL);
	port_setup(&pc->pc_port, &pcapng_ops, lower->pt_pool, lower->pt_name);
	port_inherit(&pc->pc_port, lower);
	pc->pc_snaplen =
	    snaplen != 0 && snaplen < PCAPNG_SNAPLEN ? snaplen : PCAPNG_SNAPLEN;
	pc->pc_epoch = epoch_offset_ns;
	pcapng_header(pc, ifname != NULL ? ifname : lower->pt_name);
	error = pcapng_flush(pc);
	if (error != 0) {
		pc->pc_len = 0;
		pcapng_close(&pc->pc_port);
		return error;
	}
	*out = &pc->pc_port;
	return 0;

fail:
	if (pc->pc_fd >= 0) {
		(void)close(pc->pc_fd);
	}
	free(pc->pc_buf);
	free(pc);
	nic_close(lower);
	return error;
}

int
nic_pcapng_comment(struct port *pcap, const char *text)
{
	struct pcapng_port *pc = pcapng_find(pcap);
	size_t len = strlen(text);
	uint16_t head[2] = { OPT_COMMENT, (uint16_t)len };
	int error = 0;

	if (pc == NULL || len == 0) {
		return -EINVAL;
	}
	pthread_mutex_lock(&pc->pc_mtx);
	if (len > PCAPNG_COMMENTS - 4 ||
	    4 + pad4((uint32_t)len) > PCAPNG_COMMENTS - pc->pc_optlen) {
		error = -ENOBUFS;
	} else {
		uint8_t *b = pc->pc_opts + pc->pc_optlen;

		memset(b, 0, 4 + pad4((uint32_t)len));
		memcpy(b, head, sizeof(head));
		memcpy(b + 4, text, len);
		pc->pc_optlen += 4 + pad4((uint32_t)len);
	}
	pthread_mutex_unlock(&pc->pc_mtx);
	return error;
}

int
nic_pcapng_flush(struct port *pcap)
{
	struct pcapng_port *pc = pcapng_find(pcap);
	int error;

	if (pc == NULL) {
		return -EINVAL;
	}
	pthread_mutex_lock(&pc->pc_mtx);
	error = pcapng_flush(pc);
	pthread_mutex_unlock(&pc->pc_mtx);
	return error;
}

int
nic_pcapng_stats(struct port *pcap, struct nic_pcapng_stats *out)
{
	struct pcapng_port *pc = pcapng_find(pcap);

	if (pc == NULL) {
		return -EINVAL;
	}
	pthread_mutex_lock(&pc->pc_mtx);
	*out = pc->pc_stats;
	pthread_mutex_unlock(&pc->pc_mtx);
	return 0;
}
