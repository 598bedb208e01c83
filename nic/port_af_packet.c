/*
 * port_af_packet.c - an interface of the host, through a packet socket.
 *
 * With PACKET_VNET_HDR the kernel hands over super-segments and checksums as
 * its own stack left them, and takes them from us; without it a local sender's
 * frames would arrive with half a checksum. Bursts go by recvmmsg and sendmmsg
 * or, for receiving, over a mapped ring.
 *
 * What is for us is decided in the kernel: by a filter on the destination
 * address, which also refuses frames that the kernel took a VLAN tag out of,
 * for they belong to another network (open the VLAN's own interface instead).
 * Our own frames, and those that the host sends on the same interface, do not
 * come back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "nic/api.h"
#include "nic/ifreq.h"
#include "nic/ladder.h"
#include "nic/packet_ring.h"
#include "nic/pkt_pool.h"
#include "nic/vnet.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define APK_RXBATCH 32	      /* frames a recvmmsg may bring */
#define APK_IOVMAX 1024	      /* of one sendmmsg, and of one message */
#define APK_BUFSIZE (8 << 20) /* socket buffers: some 100 super-frames */
#define APK_STATS_EVERY 256   /* packets between looks at the kernel's drops */

struct apk {
	struct port a_port;
	int a_fd, a_ctl, a_ifindex;
	bool a_promisc;
	bool a_extra; /* pt_mac is not the interface's own */
	bool a_dry;   /* the last burst took all there was */
	uint32_t a_batch, a_since;
	struct packet_ring *a_ring; /* or NULL */
	struct ladder a_ladder[APK_RXBATCH];
	struct vnet_hdr a_vh[PORT_BURST];
	struct mmsghdr a_msg[PORT_BURST];
	struct iovec a_iov[APK_IOVMAX];
};

static int
apk_setsockopt(struct apk *a, int opt, const void *value, socklen_t len)
{
	return setsockopt(a->a_fd, SOL_PACKET, opt, value, len) == 0 ? 0 :
								       -errno;
}

/* Frames that the kernel dropped because we were slow. */
static void
apk_kernel_drops(struct apk *a, uint32_t packets)
{
	struct tpacket_stats st = { 0 };
	socklen_t len = sizeof(st);

	a->a_since += packets;
	if (a->a_since < APK_STATS_EVERY) {
		return;
	}
	a->a_since = 0;
	if (getsockopt(a->a_fd, SOL_PACKET, PACKET_STATISTICS, &st, &len) == 0) {
		stat_add(&a->a_port.pt_stats.ps_rxdrops, st.tp_drops);
	}
}

/* Ladders and message headers for up to n frames; returns for how many. */
static unsigned
apk_rx_prepare(struct apk *a, unsigned n)
{
	struct port *pt = &a->a_port;
	unsigned m = 0;

	for (; m < n &&
	    ladder_fill(&a->a_ladder[m], pt->pt_pool,
		PORT_RXROOM + pt->pt_headroom);
	    m++) {
		struct iovec *iov = &a->a_iov[m * (1 + LADDER_RUNGS)];

		iov[0] = (struct iovec){ &a->a_vh[m], sizeof(a->a_vh[m]) };
		ladder_iov(&a->a_ladder[m], iov + 1);
		a->a_msg[m] = (struct mmsghdr){
			.msg_hdr = { .msg_iov = iov,
			    .msg_iovlen = 1 + LADDER_RUNGS },
		};
	}
	return m;
}

/* Frame i of a recvmmsg as a packet, or NULL after counting its loss. */
static struct pkt *
apk_rx_one(struct apk *a, int i, uint64_t now)
{
	struct mmsghdr *msg = &a->a_msg[i];
	struct pkt *p;

	if (msg->msg_len <= sizeof(struct vnet_hdr) + ETHER_HDR_LEN ||
	    (msg->msg_hdr.msg_flags & MSG_TRUNC) != 0) {
		stat_add(&a->a_port.pt_stats.ps_rxerrs, 1);
		return NULL;
	}
	p = ladder_take(&a->a_ladder[i],
	    msg->msg_len - (uint32_t)sizeof(struct vnet_hdr), now);
	if (vnet_decode(p, ETHER_HDR_LEN, &a->a_vh[i]) != 0) {
		stat_add(&a->a_port.pt_stats.ps_rxerrs, 1);
		pkt_free(p);
		return NULL;
	}
	return p;
}

/* No memory to receive into: throw one frame away. */
static int
apk_rx_discard(struct apk *a)
{
	char scrap[64];

	if (recv(a->a_fd, scrap, sizeof(scrap), MSG_DONTWAIT) < 0) {
		return -errno;
	}
	stat_add(&a->a_port.pt_stats.ps_rxdrops, 1);
	return 0;
}

/* One recvmmsg, into v[*k] and on. 1: there may be more; 0: no; -errno. */
static int
apk_rx_batch(struct apk *a, struct pkt **v, int n, int *k, uint64_t now)
{
	unsigned m = apk_rx_prepare(a, MIN_OF((unsigned)(n - *k), a->a_batch));
	int got;

	if (m == 0) {
		return apk_rx_discard(a);
	}
	got = recvmmsg(a->a_fd, a->a_msg, m, MSG_DONTWAIT, NULL);
	if (got < 0) {
		return -errno;
	}
	for (int i = 0; i < got; i++) {
		struct pkt *p = apk_rx_one(a, i, now);

		if (p != NULL) {
			v[(*k)++] = p;
		}
	}
	/* Buffers for a large batch are made by who needs them. */
	if ((unsigned)got == a->a_batch && a->a_batch < APK_RXBATCH) {
		a->a_batch *= 2;
	}
	return (unsigned)got == m;
}

static int
apk_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct apk *a = CONTAINER_OF(pt, struct apk, a_port);
	int k = 0, r = 1;

	if (a->a_dry) {
		/* Nothing, without a system call: callers ask until they are
		 * told so, and the fd says what has come since. */
		a->a_dry = false;
		return 0;
	}
	if (a->a_ring != NULL) {
		k = packet_ring_rx(a->a_ring, pt, v, n, now);
	} else {
		for (int tries = 0; k < n && tries < PORT_BURST && r > 0;
		    tries++) {
			r = apk_rx_batch(a, v, n, &k, now);
			if (r == -EINVAL) {
				/* An offload that no virtio header can say:
				 * that frame is gone, the next may do. */
				stat_add(&pt->pt_stats.ps_rxerrs, 1);
				r = 1;
			}
		}
	}
	apk_kernel_drops(a, (uint32_t)k);
	a->a_dry = k > 0 && (r == 0 || r == -EAGAIN);
	/* ENETDOWN is told once; the carrier is asked for separately. */
	if (r == -EAGAIN || r == -EINTR || r == -ENETDOWN) {
		r = 0;
	}
	return k > 0 || r > 0 ? k : r;
}

/* Message i: a header and the packet's buffers. Returns iovecs used or -1. */
static int
apk_tx_message(struct apk *a, int i, const struct pkt *p, int used)
{
	struct iovec *iov = &a->a_iov[used];
	int n;

	if (used + 1 >= APK_IOVMAX) {
		return -1;
	}
	n = pkt_iov(p, iov + 1, APK_IOVMAX - used - 1);
	if (n < 0) {
		return -1;
	}
	vnet_encode(p, &a->a_vh[i]);
	iov[0] = (struct iovec){ &a->a_vh[i], sizeof(a->a_vh[i]) };
	a->a_msg[i] = (struct mmsghdr){
		.msg_hdr = { .msg_iov = iov, .msg_iovlen = (size_t)n + 1 },
	};
	return n + 1;
}

/* The first packet could not be sent, and the kernel said why. 1: it is taken
 * all the same; 0: it waits. */
static int
apk_tx_failed(struct apk *a, struct pkt *p, int error)
{
	switch (error) {
	case EAGAIN:
		return 0;
	case EINVAL:
	case EMSGSIZE:
		port_txerr(&a->a_port, p);
		return 1;
	default: /* a full queue below, the interface down or gone */
		port_txdrop(&a->a_port, p);
		return 1;
	}
}

/* A chain of more buffers than one message may have. 1: taken; 0: not. */
static int
apk_tx_flat(struct apk *a, struct pkt *p)
{
	struct pkt *flat = pkt_flatten(p, a->a_port.pt_pool, 0);
	int taken = 1;

	if (flat == NULL) {
		port_txdrop(&a->a_port, p);
		return 1;
	}
	apk_tx_message(a, 0, flat, 0);
	if (sendmsg(a->a_fd, &a->a_msg[0].msg_hdr, MSG_DONTWAIT) >= 0) {
		pkt_free(p);
	} else {
		taken = apk_tx_failed(a, p, errno == EINTR ? EAGAIN : errno);
	}
	pkt_free(flat);
	return taken;
}

/* Up to n packets by one system call; returns how many were taken. */
static int
apk_tx_batch(struct apk *a, struct pkt **v, int n)
{
	int m = 0, used = 0, sent;

	while (m < n) {
		int more = apk_tx_message(a, m, v[m], used);

		if (more < 0) {
			break;
		}
		used += more;
		m++;
	}
	if (m == 0) {
		return apk_tx_flat(a, v[0]);
	}
	do {
		sent = sendmmsg(a->a_fd, a->a_msg, (unsigned)m, MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0) {
		return apk_tx_failed(a, v[0], errno);
	}
	for (int i = 0; i < sent; i++) {
		pkt_free(v[i]);
	}
	return sent;
}

static int
apk_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct apk *a = CONTAINER_OF(pt, struct apk, a_port);
	int k = 0;

	(void)now;
	while (k < n) {
		int taken = apk_tx_batch(a, v + k, MIN_OF(n - k, PORT_BURST));

		if (taken == 0) {
			break;
		}
		k += taken;
	}
	return k;
}

static int
apk_fd(struct port *pt)
{
	return CONTAINER_OF(pt, struct apk, a_port)->a_fd;
}

/* Which frames the kernel gives us. */
static int
apk_filter(struct apk *a)
{
	const uint8_t *mac = a->a_port.pt_mac;
	const uint32_t high = (uint32_t)mac[0] << 24 | (uint32_t)mac[1] << 16 |
	    (uint32_t)mac[2] << 8 | mac[3];
	const uint32_t low = (uint32_t)mac[4] << 8 | mac[5];
	/* clang-format off */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		    (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 9),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		    (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 7, 0),
		/* Promiscuous: the next jump always takes the packet. */
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 4, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, high, 0, 3),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, low, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	/* clang-format on */
	struct sock_fprog prog = { .len = NITEMS(code), .filter = code };

	if (a->a_promisc) {
		code[5] =
		    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 4, 0, 0);
	}
	return setsockopt(a->a_fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog,
		   sizeof(prog)) == 0 ?
	    0 :
	    -errno;
}

/* Ask the interface for frames beyond its own address, or no longer. */
static int
apk_membership(struct apk *a, bool add, int type, const uint8_t *addr)
{
	struct packet_mreq mreq = { .mr_ifindex = a->a_ifindex,
		.mr_type = (unsigned short)type };

	if (addr != NULL) {
		mreq.mr_alen = ETHER_ADDR_LEN;
		memcpy(mreq.mr_address, addr, ETHER_ADDR_LEN);
	}
	return apk_setsockopt(a,
	    add ? PACKET_ADD_MEMBERSHIP : PACKET_DROP_MEMBERSHIP, &mreq,
	    sizeof(mreq));
}

static int
apk_set_promisc(struct apk *a, bool on)
{
	int error;

	if (on == a->a_promisc) {
		return 0;
	}
	error = apk_membership(a, on, PACKET_MR_PROMISC, NULL);
	if (error == 0) {
		a->a_promisc = on;
		error = apk_filter(a);
	}
	return error;
}

/* Take frames for mac and no longer for the address before. */
static int
apk_set_mac(struct apk *a, const uint8_t *mac)
{
	uint8_t own[ETHER_ADDR_LEN];
	int arptype, error;
	bool extra;

	error = ifreq_hwaddr(a->a_ctl, a->a_port.pt_name, own, &arptype);
	if (error != 0) {
		return error;
	}
	extra = memcmp(mac, own, sizeof(own)) != 0;
	if (extra) {
		error = apk_membership(a, true, PACKET_MR_UNICAST, mac);
		if (error != 0) {
			return error;
		}
	}
	if (a->a_extra) {
		(void)apk_membership(a, false, PACKET_MR_UNICAST,
		    a->a_port.pt_mac);
	}
	a->a_extra = extra;
	memcpy(a->a_port.pt_mac, mac, ETHER_ADDR_LEN);
	return apk_filter(a);
}

/* The interface is the host's and stays as it is: we may only send less than
 * it carries. */
static int
apk_check_mtu(struct apk *a, uint32_t mtu)
{
	uint32_t most;
	int error = ifreq_mtu(a->a_ctl, a->a_port.pt_name, &most);

	return error != 0 ? error : mtu <= most ? 0 : -EMSGSIZE;
}

static int
apk_ctl(struct port *pt, int cmd, void *arg)
{
	struct apk *a = CONTAINER_OF(pt, struct apk, a_port);

	switch (cmd) {
	case PORT_CTL_LINK:
		return ifreq_running(a->a_ctl, pt->pt_name, arg);
	case PORT_CTL_MTU:
		return apk_check_mtu(a, *(const uint32_t *)arg);
	case PORT_CTL_PROMISC:
		return apk_set_promisc(a, *(const int *)arg != 0);
	case PORT_CTL_MCAST_ADD:
	case PORT_CTL_MCAST_DEL:
		return apk_membership(a, cmd == PORT_CTL_MCAST_ADD,
		    PACKET_MR_MULTICAST, arg);
	case PORT_CTL_MAC:
		return apk_set_mac(a, arg);
	default:
		return -EOPNOTSUPP;
	}
}

static void
apk_close(struct port *pt)
{
	struct apk *a = CONTAINER_OF(pt, struct apk, a_port);

	for (int i = 0; i < APK_RXBATCH; i++) {
		ladder_free(&a->a_ladder[i]);
	}
	if (a->a_ring != NULL) {
		packet_ring_close(a->a_ring);
	}
	if (a->a_fd >= 0) {
		close(a->a_fd);
	}
	if (a->a_ctl >= 0) {
		close(a->a_ctl);
	}
	port_fini(pt);
	free(a);
}

static const struct port_ops apk_ops = {
	.po_name = "af_packet",
	.po_rx = apk_rx,
	.po_tx = apk_tx,
	.po_fd = apk_fd,
	.po_ctl = apk_ctl,
	.po_close = apk_close,
};

/* As much buffer as we may have. */
static void
apk_buffers(struct apk *a)
{
	int size = APK_BUFSIZE;

	if (setsockopt(a->a_fd, SOL_SOCKET, SO_RCVBUFFORCE, &size,
		sizeof(size)) != 0) {
		(void)setsockopt(a->a_fd, SOL_SOCKET, SO_RCVBUF, &size,
		    sizeof(size));
	}
	if (setsockopt(a->a_fd, SOL_SOCKET, SO_SNDBUFFORCE, &size,
		sizeof(size)) != 0) {
		(void)setsockopt(a->a_fd, SOL_SOCKET, SO_SNDBUF, &size,
		    sizeof(size));
	}
}

/* UDP segmentation in a virtio header is known since Linux 6.2, and no call
 * tells: an older kernel refuses each such packet. */
static bool
apk_kernel_has_uso(void)
{
	struct utsname un;
	unsigned major = 0, minor = 0;

	return uname(&un) == 0 &&
	    sscanf(un.release, "%u.%u", &major, &minor) == 2 &&
	    (major > 6 || (major == 6 && minor >= 2));
}

static int
apk_interface(struct apk *a, const char *ifname)
{
	struct port *pt = &a->a_port;
	int arptype, error;

	a->a_ctl = ifreq_socket();
	if (a->a_ctl < 0) {
		return a->a_ctl;
	}
	error = ifreq_index(a->a_ctl, ifname, &a->a_ifindex);
	if (error == 0) {
		error = ifreq_mtu(a->a_ctl, ifname, &pt->pt_mtu);
	}
	if (error == 0) {
		error = ifreq_hwaddr(a->a_ctl, ifname, pt->pt_mac, &arptype);
	}
	if (error == 0 && arptype != ARPHRD_ETHER && arptype != ARPHRD_LOOPBACK) {
		error = -EAFNOSUPPORT; /* no Ethernet header on its frames */
	}
	pt->pt_mtu = MIN_OF(pt->pt_mtu, PORT_IPMAX);
	return error;
}

/* Options in the order that the kernel wants them; bind() comes last, so that
 * nothing arrives that the filter has not seen. */
static int
apk_socket(struct apk *a, int ring)
{
	int on = 1, error;

	a->a_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->a_fd < 0) {
		return -errno;
	}
	error = apk_setsockopt(a, PACKET_VNET_HDR, &on, sizeof(on));
	if (error != 0) {
		return error;
	}
	/* The filter does the same where the kernel does not know this. */
	(void)apk_setsockopt(a, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
	apk_buffers(a);
	error = apk_filter(a);
	if (error == 0 && ring) {
		error = packet_ring_open(a->a_fd, &a->a_ring);
	}
	return error;
}

static int
apk_bind(struct apk *a, int fanout_group, int fanout_mode)
{
	struct sockaddr_ll sll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = a->a_ifindex,
	};
	int fanout = (int)((uint32_t)fanout_group | (uint32_t)fanout_mode << 16);

	if (bind(a->a_fd, (struct sockaddr *)&sll, sizeof(sll)) != 0) {
		return -errno;
	}
	return fanout_group < 0 ?
	    0 :
	    apk_setsockopt(a, PACKET_FANOUT, &fanout, sizeof(fanout));
}

static void
apk_caps(struct apk *a, uint32_t mask)
{
	uint32_t caps = PORT_OFFLOADS & (mask | PORT_RXCSUM | PORT_LRO);

	if (!apk_kernel_has_uso()) {
		caps &= ~(uint32_t)PORT_USO;
	}
	a->a_port.pt_caps = port_caps_sane(caps) | PORT_BROADCAST;
}

static struct apk *
apk_new(struct pkt_pool *pool, const char *ifname)
{
	struct apk *a = calloc(1, sizeof(*a));

	if (a != NULL) {
		port_setup(&a->a_port, &apk_ops, pool, ifname);
		a->a_port.pt_link = PORT_ETHER;
		a->a_port.pt_headroom = ETHER_ALIGN;
		a->a_fd = a->a_ctl = -1;
		a->a_batch = 4;
	}
	return a;
}

int
nic_af_packet_open(struct pkt_pool *pool, const char *ifname,
    const unsigned char *mac, int promisc, int fanout_group, int fanout_mode,
    int ring, uint32_t caps_mask, struct port **out)
{
	struct apk *a;
	int error = ifreq_name_check(ifname);

	if (error != 0 || fanout_group > UINT16_MAX) {
		return error != 0 ? error : -EINVAL;
	}
	a = apk_new(pool, ifname);
	if (a == NULL) {
		return -ENOMEM;
	}
	error = apk_interface(a, ifname);
	if (error == 0) {
		error = apk_socket(a, ring);
	}
	if (error == 0 && mac != NULL) {
		error = mac[0] & 1 ? -EADDRNOTAVAIL : apk_set_mac(a, mac);
	}
	if (error == 0) {
		error = apk_set_promisc(a, promisc != 0);
	}
	if (error == 0) {
		error = apk_bind(a, fanout_group, fanout_mode);
	}
	if (error != 0) {
		apk_close(&a->a_port);
		return error;
	}
	apk_caps(a, caps_mask);
	*out = &a->a_port;
	/* The kernel merges and leaves sums open whatever we think of it. */
	if ((caps_mask & (PORT_RXCSUM | PORT_LRO)) != (PORT_RXCSUM | PORT_LRO)) {
		return nic_capoff_wrap(&a->a_port, caps_mask, out);
	}
	return 0;
}
