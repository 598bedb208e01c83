/* Tap and tun against the kernel's own UDP, in a namespace of its own. */
#include <netinet/udp.h>

#include "nic/api.h"
#include "tests/unit/c/frames.h"
#include "tests/unit/c/netns.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* frame_make() sends from 10.0.0.1 port 40000 to 10.0.0.2 port 80. */
static int
udp_socket(struct sockaddr_in *peer)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons(80) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	int big = 1 << 20;

	CHECK(fd >= 0);
	CHECK_EQ(inet_pton(AF_INET, "10.0.0.2", &sin.sin_addr), 1);
	CHECK_EQ(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big)), 0);
	*peer = sin;
	peer->sin_port = htons(40000);
	CHECK_EQ(inet_pton(AF_INET, "10.0.0.1", &peer->sin_addr), 1);
	return fd;
}

/* paylen bytes from the kernel, cut by it or by nobody into mss. */
static void
kernel_sends(int fd, const struct sockaddr_in *peer, uint32_t paylen,
    uint32_t mss)
{
	static uint8_t b[70000];
	int size = (int)mss;

	for (uint32_t i = 0; i < paylen; i++) {
		b[i] = (uint8_t)(i % 251);
	}
	CHECK_EQ(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)),
	    0);
	CHECK_EQ(sendto(fd, b, paylen, 0, (const void *)peer, sizeof(*peer)),
	    paylen);
}

/* Received from the kernel, whole or in parts: bytes of payload in order. */
static uint32_t
collect(struct port *pt, uint32_t l2, uint32_t paylen)
{
	static uint8_t b[70000];
	uint32_t off = 0, packets = 0;

	while (off < paylen) {
		struct pkt *p = port_next(pt);
		uint32_t n;

		CHECK(p != NULL);
		n = p->p_pktlen - l2 - 28;
		CHECK(pkt_copyout(p, 0, p->p_pktlen, b));
		if ((p->p_flags & PKT_CSUM_PARTIAL) == 0) {
			frame_verify(b, p->p_pktlen, l2);
		}
		for (uint32_t i = 0; i < n; i++) {
			CHECK_EQ(b[l2 + 28 + i], (off + i) % 251);
		}
		off += n;
		packets++;
		pkt_free(p);
	}
	CHECK_EQ(off, paylen);
	return packets;
}

static void
send_udp(struct port *pt, uint32_t l2, uint32_t paylen, uint32_t mss,
    uint32_t piece)
{
	static uint8_t b[70000];
	uint32_t len = frame_make(b, l2, 4, 17, paylen);
	struct pkt *p;

	if (l2 != 0) {
		struct ifreq ifr = { 0 };

		netns_name(ifr.ifr_name, pt->pt_name);
		netns_ioctl(SIOCGIFHWADDR, &ifr);
		memcpy(b, ifr.ifr_hwaddr.sa_data, 6);
	}
	p = frame_pkt(pt->pt_pool, b, len, piece);
	frame_partial(p, l2, 4, 17, mss);
	CHECK_EQ(pt->pt_output(pt, &p, 1, 0), 1);
	CHECK_EQ(stat_read(&pt->pt_stats.ps_txerrs), 0);
}

static void
kernel_receives(int fd, uint32_t paylen, uint32_t mss)
{
	static uint8_t b[70000];

	for (uint32_t off = 0; off < paylen; off += mss) {
		uint32_t n = MIN_OF(mss, paylen - off);
		ssize_t got = recv(fd, b, sizeof(b), MSG_DONTWAIT);

		CHECK_EQ(got, n);
		for (uint32_t i = 0; i < n; i++) {
			CHECK_EQ(b[i], (off + i) % 251);
		}
	}
	CHECK_EQ(recv(fd, b, sizeof(b), MSG_DONTWAIT), -1);
}

static void
talk(int is_tun, uint32_t caps)
{
	struct pkt_pool *pool = nic_pool_new(16 << 20);
	uint32_t l2 = is_tun ? 0 : 14, got;
	struct sockaddr_in peer;
	struct nic_pool_stats s;
	struct port *pt;
	int fd;

	CHECK_EQ(nic_tap_open(pool, "xsock%d", is_tun, 0, caps, &pt), 0);
	CHECK_STR(pt->pt_name, "xsock0");
	netns_addr(pt->pt_name, "10.0.0.2");
	netns_up(pt->pt_name);
	if (!is_tun) {
		netns_arp(pt->pt_name, "10.0.0.1", pt->pt_mac);
	}
	fd = udp_socket(&peer);
	for (uint32_t n = 1; n < 1400; n += 199) {
		kernel_sends(fd, &peer, n, 0);
		CHECK_EQ(collect(pt, l2, n), 1);
		send_udp(pt, l2, n, 0, 50);
		kernel_receives(fd, n, n);
	}
	kernel_sends(fd, &peer, 50000, 1000);
	got = collect(pt, l2, 50000);
	if ((pt->pt_caps & PORT_LRO) && (pt->pt_caps & PORT_USO)) {
		CHECK_EQ(got, 1);
	} else {
		CHECK_EQ(got, 50);
	}
	/* In more pieces than one write takes, too. */
	send_udp(pt, l2, 50000, 1000, 4096);
	kernel_receives(fd, 50000, 1000);
	send_udp(pt, l2, 50000, 1000, 500);
	kernel_receives(fd, 50000, 1000);
	close(fd);
	nic_close(pt);
	nic_pool_stats(pool, &s);
	CHECK_EQ(s.active, 0);
	nic_pool_free(pool);
}

TEST(tap_with_offloads)
{
	talk(0, ~0u);
}

TEST(tap_without)
{
	talk(0, 0);
}

TEST(tun_with_offloads)
{
	talk(1, ~0u);
}

TEST(tun_without)
{
	talk(1, 0);
}

TEST(tun_checksums_only)
{
	talk(1, PORT_RXCSUM | PORT_TXCSUM);
}

TEST(queues_and_names)
{
	struct pkt_pool *pool = nic_pool_new(16 << 20);
	struct port *a, *b;
	struct ifreq ifr = { 0 };
	struct nic_info info;

	CHECK_EQ(nic_tap_open(pool, "xsock0", 0, 1, ~0u, &a), 0);
	CHECK_EQ(nic_tap_open(pool, "xsock0", 0, 1, ~0u, &b), 0);
	CHECK(port_fd(a) != port_fd(b));
	CHECK_MEM(a->pt_mac, b->pt_mac, 6);
	nic_info(a, &info);
	CHECK_STR(info.name, "xsock0");
	CHECK_STR(info.kind, "tap");
	CHECK_EQ(info.mac[0] & 3, 2);
	memcpy(ifr.ifr_name, "xsock0", 7);
	netns_ioctl(SIOCGIFTXQLEN, &ifr);
	CHECK_EQ(ifr.ifr_qlen, 10000);
	netns_ioctl(SIOCGIFHWADDR, &ifr);
	CHECK(memcmp(ifr.ifr_hwaddr.sa_data, info.mac, 6) != 0);
	CHECK_EQ(nic_set_mtu(a, 9000), 0);
	netns_ioctl(SIOCGIFMTU, &ifr);
	CHECK_EQ(ifr.ifr_mtu, 9000);
	nic_close(b);
	nic_close(a);
	CHECK_EQ(nic_tap_open(pool, "xsock0", 0, 0, ~0u, &a), 0);
	CHECK_EQ(nic_tap_open(pool, "xsock0", 0, 0, ~0u, &b), -EBUSY);
	nic_close(a);
	CHECK_EQ(nic_tap_open(pool, NULL, 1, 0, ~0u, &a), 0);
	CHECK_STR(a->pt_name, "tun0");
	nic_close(a);
	CHECK_EQ(nic_tap_open(pool, "a-name-of-more-than-15", 0, 0, ~0u, &a),
	    -ENAMETOOLONG);
	CHECK_EQ(nic_tap_open(pool, "lo", 0, 0, ~0u, &a), -EINVAL);
	nic_pool_free(pool);
}

/* A frame that finds no memory is lost and counted; the next one is not. */
TEST(no_memory_to_receive)
{
	struct pkt_pool *pool = nic_pool_new(100 << 10);
	struct sockaddr_in peer;
	struct port *pt;
	struct pkt *p;
	int fd;

	CHECK_EQ(nic_tap_open(pool, "xsock0", 1, 0, ~0u, &pt), 0);
	netns_addr("xsock0", "10.0.0.2");
	netns_up("xsock0");
	fd = udp_socket(&peer);
	p = pkt_alloc(pool, 50 << 10, 0);
	kernel_sends(fd, &peer, 100, 0);
	port_quiet(pt);
	CHECK_EQ(stat_read(&pt->pt_stats.ps_rxdrops), 1);
	pkt_free(p);
	kernel_sends(fd, &peer, 100, 0);
	CHECK_EQ(collect(pt, 0, 100), 1);
	close(fd);
	nic_close(pt);
	nic_pool_free(pool);
}

int
main(int argc, char **argv)
{
	static const struct check_test tests[] = { RUN(tap_with_offloads),
		RUN(tap_without), RUN(tun_with_offloads), RUN(tun_without),
		RUN(tun_checksums_only), RUN(queues_and_names),
		RUN(no_memory_to_receive) };

	if (!netns_enter()) {
		return SKIPPED;
	}
	netns_no_ipv6();
	return check_main(tests, NITEMS(tests), argc, argv);
}
