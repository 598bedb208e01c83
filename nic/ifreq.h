/*
 * ifreq.h - the host's interfaces by ioctl, for backends that sit on one.
 *
 * Every call answers 0 or -errno; fd is any socket.
 */
#ifndef NIC_IFREQ_H
#define NIC_IFREQ_H

#include <stdbool.h>
#include <stdint.h>

#define IFREQ_TXQLEN 10000 /* packets the kernel may queue towards us */

/* A socket to ask through, or -errno. */
int ifreq_socket(void);
/* -ENAMETOOLONG or -EINVAL for what cannot be an interface's name. */
int ifreq_name_check(const char *name);
int ifreq_index(int fd, const char *name, int *index);
int ifreq_mtu(int fd, const char *name, uint32_t *mtu);
int ifreq_set_mtu(int fd, const char *name, uint32_t mtu);
/* arptype: ARPHRD_*. */
int ifreq_hwaddr(int fd, const char *name, uint8_t mac[6], int *arptype);
/* Administratively up and with a carrier. */
int ifreq_running(int fd, const char *name, int *running);
/* Raise the transmit queue to IFREQ_TXQLEN if it is shorter. */
int ifreq_raise_txqlen(int fd, const char *name);

#endif
