/* UDP: sockets over loopback and an interface, errors, groups, hostile input. */
#include "tests/unit/c/inetstack.h"

static uint8_t pkt[65536 + 64];

TEST(loopback_echo)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct socket *b = is_socket(s, AF_INET, SOCK_DGRAM, IPPROTO_UDP);
	union inaddr from, lo = ls_ip("127.0.0.1");
	uint16_t port = 0;
	char buf[64];

	CHECK_EQ(is_bind(a, "127.0.0.1", 7000), 0);
	CHECK_EQ(is_send(b, "hello", 5, "127.0.0.1", 7000, NULL), 0);
	CHECK(is_port(b) >= 32768 && is_port(b) <= 60999);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), &from, &port, NULL), 5);
	CHECK_MEM(buf, "hello", 5);
	CHECK(in_eq(&from, &lo));
	CHECK_EQ(port, is_port(b));
	CHECK_EQ(is_send(a, "", 0, "127.0.0.1", port, NULL), 0);
	CHECK_EQ(is_recv(b, buf, sizeof(buf), &from, &port, NULL), 0);
	CHECK_EQ(port, 7000);
	CHECK_EQ(is_recv(b, buf, sizeof(buf), NULL, NULL, NULL), -EAGAIN);
	CHECK_EQ(is_send(b, "x", 1, "127.0.0.1", 0, NULL), EINVAL);
	CHECK_EQ(is_send(b, "x", 1, NULL, 0, NULL), EDESTADDRREQ);
	/* 0.0.0.0 is this host */
	CHECK_EQ(is_send(b, "y", 1, "0.0.0.0", 7000, NULL), 0);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), &from, NULL, NULL), 1);
	soclose(a);
	soclose(b);
	is_free(s);
}

TEST(connected_filter)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct socket *b = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct socket *c = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_storage ss;
	socklen_t len;
	char buf[64];
	struct sockaddr un = { .sa_family = AF_UNSPEC };

	CHECK_EQ(is_bind(a, "0.0.0.0", 7000), 0);
	CHECK_EQ(is_bind(b, "127.0.0.1", 7001), 0);
	CHECK_EQ(is_bind(c, "127.0.0.1", 7002), 0);
	CHECK_EQ(is_connect(a, "127.0.0.1", 7001), 0);
	CHECK_EQ(in_setsockaddr(a, &ss, &len), 0);
	CHECK_EQ(((struct sockaddr_in *)&ss)->sin_addr.s_addr,
	    htonl(INADDR_LOOPBACK));
	CHECK_EQ(in_setpeeraddr(a, &ss, &len), 0);
	CHECK_EQ(((struct sockaddr_in *)&ss)->sin_port, htons(7001));
	CHECK_EQ(is_send(c, "no", 2, "127.0.0.1", 7000, NULL), 0);
	CHECK_EQ(is_send(b, "yes", 3, "127.0.0.1", 7000, NULL), 0);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), 3);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), -EAGAIN);
	/* c heard that nobody takes its datagrams, but is not connected */
	CHECK_EQ(c->so_error, 0);
	CHECK_EQ(is_send(a, "abc", 3, NULL, 0, NULL), 0);
	CHECK_EQ(is_recv(b, buf, sizeof(buf), NULL, NULL, NULL), 3);
	/* dissolved, it hears everybody, and keeps its port */
	CHECK_EQ(soconnect(a, &un, sizeof(un)), 0);
	CHECK_EQ(in_setpeeraddr(a, &ss, &len), ENOTCONN);
	CHECK_EQ(is_port(a), 7000);
	CHECK(in_isany(&sotoinpcb(a)->inp_laddr));
	CHECK_EQ(is_send(c, "now", 3, "127.0.0.1", 7000, NULL), 0);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), 3);
	soclose(a);
	soclose(b);
	soclose(c);
	is_free(s);
}

TEST(connect_again)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	union inaddr net0 = ls_ip("10.0.0.1");
	uint16_t port;

	CHECK_EQ(is_connect(a, "127.0.0.1", 7001), 0);
	port = is_port(a);
	CHECK_EQ(is_connect(a, "10.0.0.2", 7001), 0);
	CHECK_EQ(is_port(a), port);
	CHECK(in_eq(&sotoinpcb(a)->inp_laddr, &net0));
	CHECK_EQ(is_connect(a, "192.0.2.1", 7001), ENETUNREACH);
	CHECK(!in_pcbconnected(sotoinpcb(a)));
	soclose(a);
	/* an address without a port yet (IP_BIND_ADDRESS_NO_PORT) */
	a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1), 0);
	CHECK_EQ(is_bind(a, "10.0.0.1", 0), 0);
	CHECK_EQ(is_port(a), 0);
	CHECK_EQ(is_connect(a, "10.0.0.2", 7001), 0);
	CHECK(is_port(a) != 0);
	soclose(a);
	is_free(s);
}

TEST(refused)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);

	CHECK_EQ(is_connect(a, "127.0.0.1", 9), 0);
	CHECK_EQ(is_send(a, "x", 1, NULL, 0, NULL), 0);
	CHECK_EQ(a->so_error, ECONNREFUSED);
	CHECK_EQ(is_send(a, "x", 1, NULL, 0, NULL), ECONNREFUSED);
	CHECK_EQ(a->so_error, 0); /* once */
	CHECK_EQ(ls_stat(s, "udp.drop.noport"), 1);
	CHECK_EQ(ls_stat(s, "icmp.error"), 1);
	soclose(a);
	is_free(s);
}

/* A gateway that speaks for another address refuses in its name. */
TEST(refuse_for_another)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	const uint8_t *b;

	a->so_options |= SOO_ANYIP;
	ti->ti_if.if_flags |= IFF_ANYIP_;
	CHECK_EQ(is_bind(a, "192.0.2.9", 53), 0);
	udp_unreach(sotoinpcb(a), 3); /* to nobody yet */
	CHECK_EQ(ti->ti_nout, 0);
	CHECK_EQ(is_connect(a, "10.0.0.2", 777), 0);
	udp_unreach(sotoinpcb(a), 3);
	CHECK_EQ(ti->ti_nout, 1);
	b = ti->ti_out[0]->op_data;
	CHECK_EQ(be32get(b + 12), 0xc0000209);
	CHECK_EQ(be32get(b + 16), 0x0a000002);
	CHECK_EQ(b[20], ICMP_UNREACH);
	CHECK_EQ(b[21], ICMP_UNREACH_PORT);
	CHECK_EQ(be32get(b + 28 + 12), 0x0a000002);
	CHECK_EQ(be32get(b + 28 + 16), 0xc0000209);
	CHECK_EQ(be16get(b + 28 + 20), 777);
	CHECK_EQ(be16get(b + 28 + 22), 53);
	soclose(a);
	is_free(s);
}

TEST(wire_out)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	const uint8_t *b;

	CHECK_EQ(is_bind(a, "0.0.0.0", 5000), 0);
	CHECK_EQ(is_send(a, "abcde", 5, "10.0.0.2", 53, NULL), 0);
	CHECK_EQ(ti->ti_nout, 1);
	b = ti->ti_out[0]->op_data;
	CHECK_EQ(ti->ti_out[0]->op_len, 33);
	CHECK_EQ(ti->ti_out[0]->op_csum_flags, CSUM_PARTIAL);
	CHECK_EQ(b[0], 0x45);
	CHECK_EQ(be16get(b + 2), 33);
	CHECK_EQ(be16get(b + 6), IP_DF);
	CHECK_EQ(b[8], 64);
	CHECK_EQ(b[9], 17);
	CHECK_EQ(is_sum(b, 20, 0), 0xffff);
	CHECK_EQ(be32get(b + 12), 0x0a000001);
	CHECK_EQ(be16get(b + 20), 5000);
	CHECK_EQ(be16get(b + 22), 53);
	CHECK_EQ(be16get(b + 24), 13);
	CHECK_EQ(is_l4sum(b, 33), 0xffff);
	CHECK_EQ(is_send(a, "x", 1, "192.0.2.1", 53, NULL), ENETUNREACH);
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_TTL, 7), 0);
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_TOS, 0x28), 0);
	CHECK_EQ(is_send(a, "x", 1, "10.0.0.2", 53, NULL), 0);
	CHECK_EQ(ti->ti_out[1]->op_data[8], 7);
	CHECK_EQ(ti->ti_out[1]->op_data[1], 0x28);
	soclose(a);
	is_free(s);
}

TEST(fragments_out)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	static uint8_t data[4000], whole[4100];
	uint32_t at = 0;

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)(i * 13);
	}
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO), 0);
	CHECK_EQ(is_send(a, data, sizeof(data), "10.0.0.2", 53, NULL), EMSGSIZE);
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_WANT), 0);
	CHECK_EQ(is_send(a, data, sizeof(data), "10.0.0.2", 53, NULL), 0);
	CHECK_EQ(ti->ti_nout, 3);
	for (int i = 0; i < 3; i++) {
		const uint8_t *b = ti->ti_out[i]->op_data;
		uint32_t off = (be16get(b + 6) & IP_OFFMASK) * 8u;

		CHECK_EQ(is_sum(b, 20, 0), 0xffff);
		CHECK_EQ(off, at);
		CHECK_EQ((be16get(b + 6) & IP_MF) != 0, i < 2);
		CHECK_EQ(be16get(b + 4), be16get(ti->ti_out[0]->op_data + 4));
		memcpy(whole + 20 + at, b + 20, ti->ti_out[i]->op_len - 20);
		at += ti->ti_out[i]->op_len - 20;
	}
	CHECK_EQ(at, 4008);
	memcpy(whole, ti->ti_out[0]->op_data, 20);
	CHECK_EQ(is_l4sum(whole, 4028), 0xffff);
	CHECK_MEM(whole + 28, data, sizeof(data));
	CHECK_EQ(is_send(a, pkt, 65508, "10.0.0.2", 53, NULL), EMSGSIZE);
	soclose(a);
	is_free(s);
}

/* One that is wrong in every way a header can be; none may be delivered. */
TEST(hostile)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	uint32_t len;
	char buf[64];

	CHECK_EQ(is_bind(a, "10.0.0.1", 5000), 0);
	len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.1", 5000, "data", 4);
	pkt[28] ^= 1;
	is_put(s, ti, pkt, len);
	CHECK_EQ(ls_stat(s, "udp.drop.badsum"), 1);
	len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.1", 5000, "data", 4);
	be16put(pkt + 24, 13); /* longer than the packet */
	is_put(s, ti, pkt, len);
	be16put(pkt + 24, 7);
	is_put(s, ti, pkt, len);
	be16put(pkt + 24, 0);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ls_stat(s, "udp.drop.badlen"), 3);
	len = is_ip(pkt, "10.0.0.2", "10.0.0.1", IPPROTO_UDP, 7);
	is_ipsum(pkt);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ls_stat(s, "udp.drop.tooshort"), 1);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), -EAGAIN);
	/* No checksum is fine; so is a length shorter than the packet's. */
	len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.1", 5000, "data", 4);
	be16put(pkt + 26, 0);
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), 4);
	be16put(pkt + 24, 10);
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), 2);
	CHECK_EQ(ls_stat(s, "udp.nosum"), 2);
	soclose(a);
	is_free(s);
}

TEST(bounded)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	uint32_t len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.1", 5000, "data", 4);

	CHECK_EQ(is_bind(a, "10.0.0.1", 5000), 0);
	CHECK_EQ(sbreserve(&a->so_rcv, 4096), 0);
	for (int i = 0; i < 5000; i++) {
		is_put(s, ti, pkt, len);
	}
	CHECK(ls_stat(s, "udp.drop.fullsock") > 0);
	CHECK(a->so_rcv.sb_mbcnt <= a->so_rcv.sb_mbmax + 8192);
	soclose(a);
	is_free(s);
}

static struct mbuf *
find_cmsg(struct mbuf *c, int level, int type, void *out, size_t len)
{
	for (; c != NULL; c = c->m_next) {
		struct cmsghdr h;

		memcpy(&h, c->m_data, sizeof(h));
		if (h.cmsg_level == level && h.cmsg_type == type) {
			CHECK_EQ(h.cmsg_len, CMSG_LEN(len));
			memcpy(out, c->m_data + CMSG_LEN(0), len);
			return c;
		}
	}
	return NULL;
}

TEST(control_messages)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	uint32_t len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.1", 5000, "data", 4);
	struct in_pktinfo pi;
	struct sockaddr_in sin;
	struct mbuf *c = NULL;
	uint8_t tos;
	int ttl;
	char buf[64];

	CHECK_EQ(is_bind(a, "0.0.0.0", 5000), 0);
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_PKTINFO, 1), 0);
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_RECVTTL, 1), 0);
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_RECVTOS, 1), 0);
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_RECVORIGDSTADDR, 1), 0);
	CHECK_EQ(is_getint(a, IPPROTO_IP, IP_PKTINFO), 1);
	pkt[1] = 0xb8;
	pkt[8] = 33;
	is_ipsum(pkt);
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, &c), 4);
	CHECK(find_cmsg(c, IPPROTO_IP, IP_PKTINFO, &pi, sizeof(pi)) != NULL);
	CHECK_EQ(pi.ipi_ifindex, ti->ti_if.if_index);
	CHECK_EQ(pi.ipi_addr.s_addr, htonl(0x0a000001));
	CHECK(find_cmsg(c, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)) != NULL);
	CHECK_EQ(ttl, 33);
	CHECK(find_cmsg(c, IPPROTO_IP, IP_TOS, &tos, 1) != NULL);
	CHECK_EQ(tos, 0xb8);
	CHECK(find_cmsg(c, IPPROTO_IP, IP_RECVORIGDSTADDR, &sin, sizeof(sin)) !=
	    NULL);
	CHECK_EQ(sin.sin_port, htons(5000));
	m_freem(c);
	/* The other way: TTL and source of one datagram. */
	pi.ipi_spec_dst.s_addr = htonl(0x0a000001);
	pi.ipi_ifindex = 0;
	c = sbcreatecontrol(s->s_mb, &pi, sizeof(pi), IP_PKTINFO, IPPROTO_IP);
	ttl = 3;
	c->m_len = (uint32_t)CMSG_SPACE(sizeof(pi));
	CHECK_EQ(is_send(a, "x", 1, "10.0.0.2", 9, c), 0);
	c = sbcreatecontrol(s->s_mb, &ttl, sizeof(ttl), IP_TTL, IPPROTO_IP);
	CHECK_EQ(is_send(a, "x", 1, "10.0.0.2", 9, c), 0);
	CHECK_EQ(ti->ti_out[1]->op_data[8], 3);
	pi.ipi_spec_dst.s_addr = htonl(0x0a000099); /* not ours */
	c = sbcreatecontrol(s->s_mb, &pi, sizeof(pi), IP_PKTINFO, IPPROTO_IP);
	CHECK_EQ(is_send(a, "x", 1, "10.0.0.2", 9, c), EINVAL);
	soclose(a);
	is_free(s);
}

TEST(broadcast)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct socket *b = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	uint32_t len;
	char buf[64];

	CHECK_EQ(is_setint(a, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	CHECK_EQ(is_setint(b, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	CHECK_EQ(is_bind(a, "0.0.0.0", 5000), 0);
	CHECK_EQ(is_bind(b, "0.0.0.0", 5000), 0);
	len = is_udp(pkt, "10.0.0.2", 9, "10.0.0.255", 5000, "data", 4);
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), 4);
	CHECK_EQ(is_recv(b, buf, sizeof(buf), NULL, NULL, NULL), 4);
	/* nobody there: no ICMP about a broadcast */
	len = is_udp(pkt, "10.0.0.2", 9, "255.255.255.255", 5001, "data", 4);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ti->ti_nout, 0);
	CHECK_EQ(ls_stat(s, "udp.drop.noportbcast"), 1);
	CHECK_EQ(is_send(a, "x", 1, "10.0.0.255", 5000, NULL), EACCES);
	CHECK_EQ(is_connect(b, "255.255.255.255", 1), EACCES);
	CHECK_EQ(is_setint(a, SOL_SOCKET, SO_BROADCAST, 1), 0);
	CHECK_EQ(is_send(a, "x", 1, "255.255.255.255", 5000, NULL), 0);
	CHECK_EQ(ti->ti_nout, 1);
	CHECK_EQ(is_recv(b, buf, sizeof(buf), NULL, NULL, NULL), 1);
	/* bound to a broadcast address, it still sends from its own */
	soclose(b);
	b = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	CHECK_EQ(is_bind(b, "10.0.0.255", 5002), 0);
	CHECK_EQ(is_send(b, "x", 1, "10.0.0.2", 9, NULL), 0);
	CHECK_EQ(be32get(ti->ti_out[1]->op_data + 12), 0x0a000001);
	soclose(a);
	soclose(b);
	is_free(s);
}

TEST(multicast)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct socket *b = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct ip_mreq mreq = { .imr_multiaddr.s_addr = htonl(0xefffff01),
		.imr_interface.s_addr = htonl(0x0a000001) };
	struct sockopt join = { SOPT_SET, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mreq,
		sizeof(mreq) };
	uint32_t len;
	char buf[64];

	CHECK_EQ(is_bind(a, "0.0.0.0", 5000), 0);
	len = is_udp(pkt, "10.0.0.2", 9, "239.255.255.1", 5000, "data", 4);
	is_put(s, ti, pkt, len);
	CHECK_EQ(ls_stat(s, "ip.drop.mcastnotours"), 1);
	CHECK_EQ(sosetopt(a, &join), 0);
	CHECK_EQ(sosetopt(a, &join), EADDRINUSE);
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), 4);
	/* out, and back to the member */
	CHECK_EQ(is_send(b, "abc", 3, "239.255.255.1", 5000, NULL), 0);
	CHECK_EQ(ti->ti_nout, 1);
	CHECK_EQ(ti->ti_out[0]->op_data[8], 1);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), 3);
	CHECK_EQ(is_setint(b, IPPROTO_IP, IP_MULTICAST_LOOP, 0), 0);
	CHECK_EQ(is_setint(b, IPPROTO_IP, IP_MULTICAST_TTL, 9), 0);
	CHECK_EQ(is_getint(b, IPPROTO_IP, IP_MULTICAST_TTL), 9);
	CHECK_EQ(is_send(b, "abc", 3, "239.255.255.1", 5000, NULL), 0);
	CHECK_EQ(ti->ti_out[1]->op_data[8], 9);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), -EAGAIN);
	join.sopt_name = IP_DROP_MEMBERSHIP;
	CHECK_EQ(sosetopt(a, &join), 0);
	CHECK_EQ(sosetopt(a, &join), EADDRNOTAVAIL);
	CHECK(!if_hasmulti(&ti->ti_if,
	    &(union inaddr){
		.ia_w = { 0, 0, htonl(0xffff), htonl(0xefffff01) } }));
	mreq.imr_multiaddr.s_addr = htonl(0x0a000005);
	join.sopt_name = IP_ADD_MEMBERSHIP;
	CHECK_EQ(sosetopt(a, &join), EINVAL);
	soclose(a);
	soclose(b);
	is_free(s);
}

TEST(source_filter)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct ip_mreq_source mreq = { .imr_multiaddr.s_addr = htonl(0xe8000001),
		.imr_interface.s_addr = htonl(0x0a000001),
		.imr_sourceaddr.s_addr = htonl(0x0a000002) };
	struct sockopt join = { SOPT_SET, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP,
		&mreq, sizeof(mreq) };
	uint32_t len;
	char buf[64];

	CHECK_EQ(is_bind(a, "0.0.0.0", 5000), 0);
	CHECK_EQ(sosetopt(a, &join), 0);
	len = is_udp(pkt, "10.0.0.3", 9, "232.0.0.1", 5000, "no", 2);
	is_put(s, ti, pkt, len);
	len = is_udp(pkt, "10.0.0.2", 9, "232.0.0.1", 5000, "yes", 3);
	is_put(s, ti, pkt, len);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), 3);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), -EAGAIN);
	soclose(a);
	is_free(s);
}

TEST(segments)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	struct socket *b = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	static uint8_t data[2500];
	uint8_t buf[2500];

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)i;
	}
	CHECK_EQ(is_bind(a, "127.0.0.1", 5000), 0);
	CHECK_EQ(is_setint(b, IPPROTO_UDP, 103, 1000), 0);
	CHECK_EQ(is_getint(b, IPPROTO_UDP, 103), 1000);
	CHECK_EQ(is_send(b, data, sizeof(data), "127.0.0.1", 5000, NULL), 0);
	for (int i = 0; i < 3; i++) {
		int n = i < 2 ? 1000 : 500;

		CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), n);
		CHECK_MEM(buf, data + 1000 * i, (size_t)n);
	}
	CHECK_EQ(is_recv(a, buf, sizeof(buf), NULL, NULL, NULL), -EAGAIN);
	/* an interface without offload gets datagrams cut here */
	CHECK_EQ(is_send(b, data, sizeof(data), "10.0.0.2", 5000, NULL), 0);
	CHECK_EQ(ti->ti_nout, 3);
	CHECK_EQ(ti->ti_out[2]->op_len, 528);
	CHECK_EQ(is_l4sum(ti->ti_out[2]->op_data, 528), 0xffff);
	CHECK_EQ(is_setint(b, IPPROTO_UDP, 103, 1473), 0);
	CHECK_EQ(is_send(b, data, sizeof(data), "10.0.0.2", 5000, NULL), EINVAL);
	soclose(a);
	soclose(b);
	is_free(s);
}

TEST(ipv6_loopback)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = is_socket(s, AF_INET6, SOCK_DGRAM, 0);
	struct socket *b = is_socket(s, AF_INET6, SOCK_DGRAM, 0);
	union inaddr from, lo = ls_ip("::1");
	struct in6_pktinfo pi;
	struct mbuf *c = NULL;
	uint16_t port = 0;
	char buf[64];
	int val;

	CHECK_EQ(is_setint(a, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1), 0);
	CHECK_EQ(is_setint(a, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1), 0);
	CHECK_EQ(is_setint(a, IPPROTO_IPV6, IPV6_RECVTCLASS, 1), 0);
	CHECK_EQ(is_bind(a, "::", 7000), 0);
	CHECK_EQ(is_setint(b, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9), 0);
	CHECK_EQ(is_setint(b, IPPROTO_IPV6, IPV6_TCLASS, 0x20), 0);
	CHECK_EQ(is_send(b, "hello", 5, "::1", 7000, NULL), 0);
	CHECK_EQ(is_recv(a, buf, sizeof(buf), &from, &port, &c), 5);
	CHECK(in_eq(&from, &lo));
	CHECK(find_cmsg(c, IPPROTO_IPV6, IPV6_PKTINFO, &pi, sizeof(pi)) != NULL);
	CHECK_MEM(&pi.ipi6_addr, &lo, 16);
	CHECK(find_cmsg(c, IPPROTO_IPV6, IPV6_HOPLIMIT, &val, sizeof(val)) !=
	    NULL);
	CHECK_EQ(val, 9);
	CHECK(find_cmsg(c, IPPROTO_IPV6, IPV6_TCLASS, &val, sizeof(val)) != NULL);
	CHECK_EQ(val, 0x20);
	m_freem(c);
	/* the same socket serves IPv4, with a mapped address */
	soclose(b);
	b = is_socket(s, AF_INET, SOCK_DGRAM, 0);
	CHECK_EQ(is_send(b, "four", 4, "127.0.0.1", 7000, NULL), 0);
	c = NULL;
	CHECK_EQ(is_recv(a, buf, sizeof(buf), &from, &port, &c), 4);
	CHECK(in_is4(&from));
	m_freem(c);
	/* nobody on that port */
	soclose(b);
	b = is_socket(s, AF_INET6, SOCK_DGRAM, 0);
	CHECK_EQ(is_connect(b, "::1", 9), 0);
	CHECK_EQ(is_send(b, "x", 1, NULL, 0, NULL), 0);
	CHECK_EQ(b->so_error, ECONNREFUSED);
	CHECK_EQ(is_connect(a, "2001:db8::1", 9), ENETUNREACH);
	soclose(a);
	soclose(b);
	is_free(s);
}

TESTS(RUN(loopback_echo), RUN(connected_filter), RUN(connect_again),
    RUN(refused), RUN(refuse_for_another), RUN(wire_out), RUN(fragments_out),
    RUN(hostile), RUN(bounded), RUN(control_messages), RUN(broadcast),
    RUN(multicast), RUN(source_filter), RUN(segments), RUN(ipv6_loopback))
