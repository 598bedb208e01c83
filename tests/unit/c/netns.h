/*
 * netns.h - a network namespace of the test's own, without any tools.
 *
 * The process moves into it; everything in it goes away with the process.
 */
#ifndef TESTS_UNIT_C_NETNS_H
#define TESTS_UNIT_C_NETNS_H

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nic/api.h"
#include "nic/port.h"
#include "tests/unit/c/check.h"

#define SKIPPED 77 /* what ctest takes for a skipped test */

/* False, with the reason printed, when the machine does not let us. */
static inline int
netns_enter(void)
{
	if (unshare(CLONE_NEWNET) != 0) {
		printf("skipped: unshare(CLONE_NEWNET): %s\n", strerror(errno));
		return 0;
	}
	if (access("/dev/net/tun", R_OK | W_OK) != 0) {
		printf("skipped: /dev/net/tun: %s\n", strerror(errno));
		return 0;
	}
	return 1;
}

/* No router solicitations and such among what the tests send. */
static inline void
netns_no_ipv6(void)
{
	FILE *f = fopen("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w");

	if (f != NULL) {
		fputs("1\n", f);
		fclose(f);
	}
}

static inline void
netns_ioctl(unsigned long cmd, void *arg)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK(fd >= 0);
	if (ioctl(fd, cmd, arg) != 0) {
		perror("ioctl");
		CHECK(!"ioctl");
	}
	close(fd);
}

static inline void
netns_name(char to[IFNAMSIZ], const char *ifname)
{
	size_t n = strlen(ifname);

	CHECK(n < IFNAMSIZ);
	memcpy(to, ifname, n + 1);
}

static inline void
netns_flags(const char *ifname, short set, short clear)
{
	struct ifreq ifr = { 0 };

	netns_name(ifr.ifr_name, ifname);
	netns_ioctl(SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags = (short)((ifr.ifr_flags | set) & ~clear);
	netns_ioctl(SIOCSIFFLAGS, &ifr);
}

static inline void
netns_up(const char *ifname)
{
	netns_flags(ifname, IFF_UP, 0);
}

static inline void
netns_addr(const char *ifname, const char *addr)
{
	struct ifreq ifr = { 0 };
	struct sockaddr_in *sin = (void *)&ifr.ifr_addr;

	netns_name(ifr.ifr_name, ifname);
	sin->sin_family = AF_INET;
	CHECK_EQ(inet_pton(AF_INET, addr, &sin->sin_addr), 1);
	netns_ioctl(SIOCSIFADDR, &ifr);
	CHECK_EQ(inet_pton(AF_INET, "255.255.255.0", &sin->sin_addr), 1);
	netns_ioctl(SIOCSIFNETMASK, &ifr);
}

/* addr is at mac, for good. */
static inline void
netns_arp(const char *ifname, const char *addr, const uint8_t *mac)
{
	struct arpreq req = { .arp_flags = ATF_PERM | ATF_COM };
	struct sockaddr_in *sin = (void *)&req.arp_pa;

	netns_name(req.arp_dev, ifname);
	sin->sin_family = AF_INET;
	CHECK_EQ(inet_pton(AF_INET, addr, &sin->sin_addr), 1);
	req.arp_ha.sa_family = ARPHRD_ETHER;
	memcpy(req.arp_ha.sa_data, mac, 6);
	netns_ioctl(SIOCSARP, &req);
}

/* The next packet, waiting for it at most five seconds; NULL: none came. */
static inline struct pkt *
port_next(struct port *pt)
{
	for (int tries = 0; tries < 50; tries++) {
		struct pollfd pfd = { .fd = port_fd(pt), .events = POLLIN };
		struct pkt *p;
		int k = pt->pt_input(pt, &p, 1, 5);

		CHECK(k >= 0);
		if (k == 1) {
			return p;
		}
		CHECK(poll(&pfd, 1, 100) >= 0);
	}
	return NULL;
}

/* Nothing is waiting now. */
static inline void
port_quiet(struct port *pt)
{
	struct pkt *p;

	CHECK_EQ(pt->pt_input(pt, &p, 1, 5), 0);
}

#endif
