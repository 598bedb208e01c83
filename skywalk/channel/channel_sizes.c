/*
 * channel_sizes.c - what skywalk was compiled with, for the check at import.
 */
#include "nic/pkt.h"
#include "nic/port.h"
#include "skywalk/api.h"

size_t
sk_sizeof_pkt(void)
{
	return sizeof(struct pkt);
}

size_t
sk_sizeof_port(void)
{
	return sizeof(struct port);
}
