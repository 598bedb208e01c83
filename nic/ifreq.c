/*
 * ifreq.c - the host's interfaces by ioctl (netdevice(7)).
 */
#include "nic/ifreq.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int
ifreq_socket(void)
{
	/* Any family will do, and this one is everywhere. */
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd >= 0 ? fd : -errno;
}

int
ifreq_name_check(const char *name)
{
	size_t len = strlen(name);

	if (len >= IFNAMSIZ) {
		return -ENAMETOOLONG;
	}
	return len == 0 || strchr(name, '/') != NULL ? -EINVAL : 0;
}

static int
ifreq_do(int fd, const char *name, unsigned long cmd, struct ifreq *ifr)
{
	int error = ifreq_name_check(name);

	if (error != 0) {
		return error;
	}
	memcpy(ifr->ifr_name, name, strlen(name) + 1);
	return ioctl(fd, cmd, ifr) == 0 ? 0 : -errno;
}

int
ifreq_index(int fd, const char *name, int *index)
{
	struct ifreq ifr = { 0 };
	int error = ifreq_do(fd, name, SIOCGIFINDEX, &ifr);

	*index = ifr.ifr_ifindex;
	return error;
}

int
ifreq_mtu(int fd, const char *name, uint32_t *mtu)
{
	struct ifreq ifr = { 0 };
	int error = ifreq_do(fd, name, SIOCGIFMTU, &ifr);

	if (error == 0) {
		*mtu = (uint32_t)ifr.ifr_mtu;
	}
	return error;
}

int
ifreq_set_mtu(int fd, const char *name, uint32_t mtu)
{
	struct ifreq ifr = { .ifr_mtu = (int)mtu };

	return ifreq_do(fd, name, SIOCSIFMTU, &ifr);
}

int
ifreq_hwaddr(int fd, const char *name, uint8_t mac[6], int *arptype)
{
	struct ifreq ifr = { 0 };
	int error = ifreq_do(fd, name, SIOCGIFHWADDR, &ifr);

	if (error == 0) {
		memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
		*arptype = ifr.ifr_hwaddr.sa_family;
	}
	return error;
}

int
ifreq_running(int fd, const char *name, int *running)
{
	struct ifreq ifr = { 0 };
	int error = ifreq_do(fd, name, SIOCGIFFLAGS, &ifr);

	*running = error == 0 &&
	    (ifr.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
	return error;
}

int
ifreq_raise_txqlen(int fd, const char *name)
{
	struct ifreq ifr = { 0 };
	int error = ifreq_do(fd, name, SIOCGIFTXQLEN, &ifr);

	if (error != 0 || ifr.ifr_qlen >= IFREQ_TXQLEN) {
		return error;
	}
	ifr.ifr_qlen = IFREQ_TXQLEN;
	return ifreq_do(fd, name, SIOCSIFTXQLEN, &ifr);
}
