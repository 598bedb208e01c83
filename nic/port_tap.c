/*
 * port_tap.c - a tap or tun interface: the kernel's side is an interface, ours
 * a descriptor.
 *
 * Every frame has a virtio-net header before it, so super-segments of up to
 * 64 KiB pass in both directions in one system call; TUNSETOFFLOAD tells the
 * kernel what we are ready to receive, and what we send it takes anyway.
 *
 * The kernel drops when the queue towards us is full, without telling the
 * sender; the queue is made as long as we are allowed to (TUN has no other
 * back-pressure).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "nic/api.h"
#include "nic/ifreq.h"
#include "nic/ladder.h"
#include "nic/pkt_pool.h"
#include "nic/vnet.h"

/* Since Linux 6.2; the headers may be older than the kernel. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define TAP_TSO (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
#define TAP_USO (TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6)
#define TAP_IOVMAX 64

struct tap {
	struct port t_port;
	int t_fd, t_ctl;
	bool t_dry; /* the last burst took all there was */
	struct ladder t_ladder;
};

/* One read. 1: *out is a packet; 0: there was one but it is gone; -errno. */
static int
tap_read(struct tap *t, struct pkt **out, uint64_t now)
{
	struct port_stats *ps = &t->t_port.pt_stats;
	uint32_t room, len, l2len = port_l2len(&t->t_port);
	struct iovec iov[1 + LADDER_RUNGS];
	struct vnet_hdr vh;
	struct pkt *p;
	ssize_t r;

	if (!ladder_fill(&t->t_ladder, t->t_port.pt_pool,
		PORT_RXROOM + t->t_port.pt_headroom)) {
		char scrap[64]; /* no memory: the frame is lost */

		if (read(t->t_fd, scrap, sizeof(scrap)) < 0) {
			return -errno;
		}
		stat_add(&ps->ps_rxdrops, 1);
		return 0;
	}
	iov[0] = (struct iovec){ &vh, sizeof(vh) };
	room = ladder_iov(&t->t_ladder, iov + 1);
	r = readv(t->t_fd, iov, NITEMS(iov));
	if (r < 0) {
		return -errno;
	}
	len = r > (ssize_t)sizeof(vh) ? (uint32_t)r - sizeof(vh) : 0;
	/* A frame that fills everything was cut. */
	if (len <= l2len || len == room) {
		stat_add(&ps->ps_rxerrs, 1);
		return 0;
	}
	p = ladder_take(&t->t_ladder, len, now);
	if (vnet_decode(p, l2len, &vh) != 0) {
		stat_add(&ps->ps_rxerrs, 1);
		pkt_free(p);
		return 0;
	}
	*out = p;
	return 1;
}

static int
tap_rx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct tap *t = CONTAINER_OF(pt, struct tap, t_port);
	int k = 0;

	if (t->t_dry) {
		/* Nothing, without a system call: callers ask until they are
		 * told so, and the fd says what has come since. */
		t->t_dry = false;
		return 0;
	}
	for (int tries = 0; k < n && tries < PORT_BURST; tries++) {
		int r = tap_read(t, &v[k], now);

		if (r == -EINTR) {
			continue;
		}
		if (r < 0) {
			t->t_dry = k > 0 && r == -EAGAIN;
			return k > 0 || r == -EAGAIN ? k : r;
		}
		k += r;
	}
	return k;
}

/* Write one frame: 0 or an errno. */
static int
tap_write(struct tap *t, const struct pkt *p)
{
	struct vnet_hdr vh;
	struct iovec iov[TAP_IOVMAX];
	int n = pkt_iov(p, iov + 1, TAP_IOVMAX - 1), error;

	if (n < 0) {
		struct pkt *flat = pkt_flatten(p, t->t_port.pt_pool, 0);

		error = flat != NULL ? tap_write(t, flat) : ENOBUFS;
		pkt_free(flat);
		return error;
	}
	vnet_encode(p, &vh);
	iov[0] = (struct iovec){ &vh, sizeof(vh) };
	return writev(t->t_fd, iov, n + 1) >= 0 ? 0 : errno;
}

static int
tap_tx(struct port *pt, struct pkt **v, int n, uint64_t now)
{
	struct tap *t = CONTAINER_OF(pt, struct tap, t_port);
	int k = 0;

	(void)now;
	while (k < n) {
		int error = tap_write(t, v[k]);

		switch (error) {
		case 0:
			pkt_free(v[k++]);
			break;
		case EINTR:
			break;
		case EAGAIN:
			return k;
		case EINVAL:
		case EMSGSIZE:
			port_txerr(pt, v[k++]);
			break;
		default: /* EIO: the interface is down; EBADFD: gone */
			port_txdrop(pt, v[k++]);
			break;
		}
	}
	return k;
}

static int
tap_fd(struct port *pt)
{
	return CONTAINER_OF(pt, struct tap, t_port)->t_fd;
}

static int
tap_ctl(struct port *pt, int cmd, void *arg)
{
	struct tap *t = CONTAINER_OF(pt, struct tap, t_port);

	switch (cmd) {
	case PORT_CTL_LINK:
		return ifreq_running(t->t_ctl, pt->pt_name, arg);
	case PORT_CTL_MTU:
		return ifreq_set_mtu(t->t_ctl, pt->pt_name,
		    *(const uint32_t *)arg);
	case PORT_CTL_PROMISC:
	case PORT_CTL_MCAST_ADD:
	case PORT_CTL_MCAST_DEL:
	case PORT_CTL_MAC:
		return 0; /* we get all that the kernel's side sends */
	default:
		return -EOPNOTSUPP;
	}
}

static void
tap_close(struct port *pt)
{
	struct tap *t = CONTAINER_OF(pt, struct tap, t_port);

	ladder_free(&t->t_ladder);
	if (t->t_fd >= 0) {
		close(t->t_fd);
	}
	if (t->t_ctl >= 0) {
		close(t->t_ctl);
	}
	port_fini(pt);
	free(t);
}

static const struct port_ops tap_ops = {
	.po_name = "tap",
	.po_rx = tap_rx,
	.po_tx = tap_tx,
	.po_fd = tap_fd,
	.po_ctl = tap_ctl,
	.po_close = tap_close,
};

static const struct port_ops tun_ops = {
	.po_name = "tun",
	.po_rx = tap_rx,
	.po_tx = tap_tx,
	.po_fd = tap_fd,
	.po_ctl = tap_ctl,
	.po_close = tap_close,
};

/*
 * Tell the kernel what we receive; what it refuses is asked for less. Unknown
 * bits, TSO without CSUM and one USO without the other are all EINVAL.
 */
static void
tap_offload(struct tap *t, uint32_t mask)
{
	uint32_t caps = port_caps_sane(mask & PORT_OFFLOADS);
	bool uso = ioctl(t->t_fd, TUNSETOFFLOAD, (unsigned long)TAP_USO) == 0;
	bool lro = (caps & PORT_LRO) != 0;
	const unsigned long tries[] = {
		lro && uso ? TAP_TSO | TUN_F_TSO_ECN | TAP_USO : 0,
		lro ? TAP_TSO | TUN_F_TSO_ECN : 0,
		lro ? TAP_TSO : 0,
		TUN_F_CSUM,
	};

	if (!uso) {
		caps &= ~(uint32_t)PORT_USO;
	}
	t->t_port.pt_caps |= caps;
	for (size_t i = 0; i < NITEMS(tries); i++) {
		if ((caps & PORT_RXCSUM) != 0 && tries[i] != 0 &&
		    ioctl(t->t_fd, TUNSETOFFLOAD, tries[i]) == 0) {
			if (tries[i] == TUN_F_CSUM) {
				t->t_port.pt_caps &= ~(uint32_t)PORT_LRO;
			}
			return;
		}
	}
	(void)ioctl(t->t_fd, TUNSETOFFLOAD, 0ul);
	t->t_port.pt_caps &= ~(uint32_t)(PORT_RXCSUM | PORT_LRO);
}

/* Create the interface, or attach to one; its name goes to pt_name. */
static int
tap_attach(struct tap *t, const char *name, int is_tun, int multi_queue)
{
	struct ifreq ifr = { 0 };
	int hdrsize = sizeof(struct vnet_hdr), little = 1;

	t->t_fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t->t_fd < 0) {
		return -errno;
	}
	ifr.ifr_flags = (short)((is_tun ? IFF_TUN : IFF_TAP) | IFF_NO_PI |
	    IFF_VNET_HDR | (multi_queue ? IFF_MULTI_QUEUE : 0));
	memcpy(ifr.ifr_name, name, strlen(name) + 1);
	if (ioctl(t->t_fd, TUNSETIFF, &ifr) != 0 ||
	    ioctl(t->t_fd, TUNSETVNETHDRSZ, &hdrsize) != 0 ||
	    ioctl(t->t_fd, TUNSETVNETLE, &little) != 0) {
		return -errno;
	}
	memcpy(t->t_port.pt_name, ifr.ifr_name, IFNAMSIZ);
	return 0;
}

/* What the interface is like, and what it should be like. */
static int
tap_configure(struct tap *t, uint32_t caps_mask)
{
	struct port *pt = &t->t_port;
	int error, arptype;

	t->t_ctl = ifreq_socket();
	if (t->t_ctl < 0) {
		return t->t_ctl;
	}
	error = ifreq_mtu(t->t_ctl, pt->pt_name, &pt->pt_mtu);
	if (error != 0) {
		return error;
	}
	if (pt->pt_link == PORT_ETHER) {
		error =
		    ifreq_hwaddr(t->t_ctl, pt->pt_name, pt->pt_mac, &arptype);
		if (error != 0) {
			return error;
		}
		/* The address is the kernel's end; ours is beside it. */
		pt->pt_mac[0] = (uint8_t)((pt->pt_mac[0] | 2) & ~1);
		pt->pt_mac[5] ^= 1;
		pt->pt_caps |= PORT_BROADCAST;
		pt->pt_headroom = ETHER_ALIGN;
	}
	/* Not everybody may; then bursts are shorter. */
	(void)ifreq_raise_txqlen(t->t_ctl, pt->pt_name);
	tap_offload(t, caps_mask);
	return 0;
}

int
nic_tap_open(struct pkt_pool *pool, const char *name, int is_tun,
    int multi_queue, uint32_t caps_mask, struct port **out)
{
	struct tap *t;
	int error;

	if (name == NULL || name[0] == '\0') {
		name = is_tun ? "tun%d" : "tap%d";
	}
	error = ifreq_name_check(name);
	if (error != 0) {
		return error;
	}
	t = calloc(1, sizeof(*t));
	if (t == NULL) {
		return -ENOMEM;
	}
	t->t_fd = t->t_ctl = -1;
	port_setup(&t->t_port, is_tun ? &tun_ops : &tap_ops, pool, name);
	t->t_port.pt_link = is_tun ? PORT_RAWIP : PORT_ETHER;
	error = tap_attach(t, name, is_tun, multi_queue);
	if (error == 0) {
		error = tap_configure(t, caps_mask);
	}
	if (error != 0) {
		tap_close(&t->t_port);
		return error;
	}
	*out = &t->t_port;
	return 0;
}
