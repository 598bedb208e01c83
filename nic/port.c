/*
 * port.c - what all ports have in common, and the calls of api.h on any port.
 */
#include "nic/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nic/api.h"
#include "nic/offload.h"

/* As much of from as fits, always terminated. */
static void
str_copy(char *to, size_t size, const char *from)
{
	size_t n = strlen(from);

	n = MIN_OF(n, size - 1);
	memcpy(to, from, n);
	to[n] = '\0';
}

void
port_setup(struct port *pt, const struct port_ops *ops, struct pkt_pool *pool,
    const char *name)
{
	memset(pt, 0, sizeof(*pt));
	pt->pt_ops = ops;
	pt->pt_input = port_input;
	pt->pt_output = port_output;
	pt->pt_pool = pool;
	pt->pt_gsomax = PORT_IPMAX;
	str_copy(pt->pt_name, sizeof(pt->pt_name), name);
}

void
port_inherit(struct port *pt, struct port *lower)
{
	pt->pt_lower = lower;
	pt->pt_caps = lower->pt_caps;
	pt->pt_mtu = lower->pt_mtu;
	pt->pt_gsomax = lower->pt_gsomax;
	pt->pt_link = lower->pt_link;
	memcpy(pt->pt_mac, lower->pt_mac, sizeof(pt->pt_mac));
	pt->pt_headroom = lower->pt_headroom;
}

void
port_fini(struct port *pt)
{
	for (uint32_t i = 0; i < pt->pt_npend; i++) {
		pkt_free(pt->pt_pend[i]);
	}
	free(pt->pt_pend);
	pt->pt_pend = NULL;
	pt->pt_npend = pt->pt_pendcap = 0;
}

void
port_txdrop(struct port *pt, struct pkt *p)
{
	stat_add(&pt->pt_stats.ps_txdrops, 1);
	pkt_free(p);
}

void
port_txerr(struct port *pt, struct pkt *p)
{
	stat_add(&pt->pt_stats.ps_txerrs, 1);
	pkt_free(p);
}

void
nic_close(struct port *port)
{
	if (port != NULL) {
		port->pt_ops->po_close(port);
	}
}

void
nic_info(struct port *port, struct nic_info *out)
{
	memset(out, 0, sizeof(*out));
	str_copy(out->name, sizeof(out->name), port->pt_name);
	str_copy(out->kind, sizeof(out->kind), port->pt_ops->po_name);
	out->caps = port->pt_caps;
	out->mtu = port->pt_mtu;
	out->gsomax = port->pt_gsomax;
	out->link = port->pt_link == PORT_ETHER ? 0 : 1;
	memcpy(out->mac, port->pt_mac, sizeof(out->mac));
	out->fd = port_fd(port);
}

void
nic_stats(struct port *port, struct nic_stats *out)
{
	const struct port_stats *ps = &port->pt_stats;

	out->rxpkts = stat_read(&ps->ps_rxpkts);
	out->rxbytes = stat_read(&ps->ps_rxbytes);
	out->rxdrops = stat_read(&ps->ps_rxdrops);
	out->rxerrs = stat_read(&ps->ps_rxerrs);
	out->txpkts = stat_read(&ps->ps_txpkts);
	out->txbytes = stat_read(&ps->ps_txbytes);
	out->txdrops = stat_read(&ps->ps_txdrops);
	out->txerrs = stat_read(&ps->ps_txerrs);
	out->swcsum = stat_read(&ps->ps_swcsum);
	out->swgso = stat_read(&ps->ps_swgso);
}

static int
port_ctl(struct port *pt, int cmd, void *arg)
{
	return pt->pt_ops->po_ctl != NULL ? pt->pt_ops->po_ctl(pt, cmd, arg) :
					    -EOPNOTSUPP;
}

int
nic_set_mtu(struct port *port, uint32_t mtu)
{
	int error;

	if (mtu < 68 || mtu > PORT_IPMAX) {
		return -EINVAL; /* RFC 791: every link carries 68 */
	}
	error = port_ctl(port, PORT_CTL_MTU, &mtu);
	for (; error == 0 && port != NULL; port = port->pt_lower) {
		port->pt_mtu = mtu;
	}
	return error;
}

int
nic_set_promisc(struct port *port, int on)
{
	return port_ctl(port, PORT_CTL_PROMISC, &on);
}

int
nic_set_mac(struct port *port, const unsigned char *mac)
{
	uint8_t addr[ETHER_ADDR_LEN];
	int error;

	if (port->pt_link != PORT_ETHER) {
		return -EOPNOTSUPP;
	}
	if (mac[0] & 1) {
		return -EADDRNOTAVAIL; /* a group has no port of its own */
	}
	memcpy(addr, mac, sizeof(addr));
	error = port_ctl(port, PORT_CTL_MAC, addr);
	if (error == -EOPNOTSUPP) {
		error = 0; /* a port that filters nothing */
	}
	for (; error == 0 && port != NULL; port = port->pt_lower) {
		memcpy(port->pt_mac, addr, sizeof(addr));
	}
	return error;
}

int
nic_send(struct port *port, const void *frame, size_t len, uint64_t now)
{
	return nic_send_class(port, frame, len, 0, 0, now);
}

int
nic_send_class(struct port *port, const void *frame, size_t len,
    unsigned int svc, uint32_t flowid, uint64_t now)
{
	struct pkt *p;
	int k;

	if (len == 0 || len > (size_t)PKT_BIG - port->pt_headroom) {
		return -EMSGSIZE;
	}
	p = pkt_alloc(port->pt_pool, (uint32_t)len + port->pt_headroom,
	    port->pt_headroom);
	if (p == NULL) {
		return -ENOBUFS;
	}
	memcpy(p->p_data, frame, len);
	p->p_len = p->p_pktlen = (uint32_t)len;
	p->p_flags = PKT_TX;
	p->p_svc = (uint8_t)svc;
	p->p_flowid = flowid;
	k = port->pt_output(port, &p, 1, now);
	if (k == 1) {
		return 0;
	}
	pkt_free(p);
	return k < 0 ? k : -EAGAIN;
}

/* A checksum left to the receiver is completed in the copy, for whoever reads
 * frames wants those of a wire. */
static void
recv_csum(const struct pkt *p, uint8_t *b)
{
	uint32_t at = (uint32_t)p->p_csum_start + p->p_csum_offset;
	uint16_t sum;

	if ((p->p_flags & PKT_CSUM_PARTIAL) == 0 || at + 2 > p->p_pktlen) {
		return;
	}
	sum = (uint16_t)~csum_fold(csum_add(b + p->p_csum_start,
	    p->p_pktlen - p->p_csum_start, 0));
	if (sum == 0 && p->p_csum_offset == 6) {
		sum = 0xffff;
	}
	memcpy(b + at, &sum, 2);
}

long
nic_recv(struct port *port, void *buf, size_t len, uint64_t now)
{
	struct pkt *p;
	long ret;
	int k = port->pt_input(port, &p, 1, now);

	if (k <= 0) {
		return k;
	}
	ret = (long)p->p_pktlen;
	if (p->p_pktlen > len) {
		ret = -EMSGSIZE;
	} else {
		pkt_copyout(p, 0, p->p_pktlen, buf);
		recv_csum(p, buf);
	}
	pkt_free(p);
	return ret;
}

uint64_t
nic_poll_at(struct port *port)
{
	return port_poll_at(port);
}

size_t
nic_sizeof_pkt(void)
{
	return sizeof(struct pkt);
}

size_t
nic_sizeof_port(void)
{
	return sizeof(struct port);
}
