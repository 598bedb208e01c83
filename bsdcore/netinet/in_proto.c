/*
 * in_proto.c - the Internet protocols as tables.
 *
 * Both families have the same protocols under the same functions; addresses
 * tell them apart. Only the rows of inetsw are initialised, once, and only
 * they are where ip_input() and ip6_input() look for a transport.
 */
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip_icmp.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/netinet/tcp_var.h"

#define TCP_FLAGS (PR_CONNREQUIRED | PR_WANTRCVD | PR_LISTEN)
#define DGRAM_FLAGS (PR_ATOMIC | PR_ADDR)

/* clang-format off */
const struct protosw inetsw[] = {
	{ .pr_type = SOCK_STREAM, .pr_domain = PF_INET, .pr_protocol = IPPROTO_TCP,
	  .pr_flags = TCP_FLAGS, .pr_input = tcp_input, .pr_ctlinput = tcp_ctlinput,
	  .pr_ctloutput = tcp_ctloutput, .pr_usrreqs = &tcp_usrreqs,
	  .pr_init = tcp_init, .pr_fini = tcp_fini, .pr_drain = tcp_drain },
	{ .pr_type = SOCK_DGRAM, .pr_domain = PF_INET, .pr_protocol = IPPROTO_UDP,
	  .pr_flags = DGRAM_FLAGS, .pr_input = udp_input, .pr_ctlinput = udp_ctlinput,
	  .pr_ctloutput = udp_ctloutput, .pr_usrreqs = &udp_usrreqs,
	  .pr_init = udp_init, .pr_fini = udp_fini },
	{ .pr_type = SOCK_RAW, .pr_domain = PF_INET, .pr_protocol = IPPROTO_ICMP,
	  .pr_flags = DGRAM_FLAGS, .pr_input = icmp_input, .pr_ctlinput = ping_ctlinput,
	  .pr_ctloutput = rip_ctloutput, .pr_usrreqs = &rip_usrreqs,
	  .pr_init = icmp_init, .pr_fini = icmp_fini },
	{ .pr_type = SOCK_DGRAM, .pr_domain = PF_INET, .pr_protocol = IPPROTO_ICMP,
	  .pr_flags = DGRAM_FLAGS, .pr_input = icmp_input, .pr_ctlinput = ping_ctlinput,
	  .pr_ctloutput = rip_ctloutput, .pr_usrreqs = &ping_usrreqs },
	{ .pr_type = SOCK_RAW, .pr_domain = PF_INET, .pr_protocol = 0,
	  .pr_flags = DGRAM_FLAGS, .pr_input = rip_input, .pr_ctlinput = rip_ctlinput,
	  .pr_ctloutput = rip_ctloutput, .pr_usrreqs = &rip_usrreqs,
	  .pr_init = rip_init, .pr_fini = rip_fini, .pr_drain = ip_drain },
};

static const struct protosw inet6sw[] = {
	{ .pr_type = SOCK_STREAM, .pr_domain = PF_INET6, .pr_protocol = IPPROTO_TCP,
	  .pr_flags = TCP_FLAGS, .pr_input = tcp_input, .pr_ctlinput = tcp_ctlinput,
	  .pr_ctloutput = tcp_ctloutput, .pr_usrreqs = &tcp_usrreqs },
	{ .pr_type = SOCK_DGRAM, .pr_domain = PF_INET6, .pr_protocol = IPPROTO_UDP,
	  .pr_flags = DGRAM_FLAGS, .pr_input = udp_input, .pr_ctlinput = udp_ctlinput,
	  .pr_ctloutput = udp_ctloutput, .pr_usrreqs = &udp_usrreqs },
	{ .pr_type = SOCK_RAW, .pr_domain = PF_INET6, .pr_protocol = IPPROTO_ICMPV6,
	  .pr_flags = DGRAM_FLAGS, .pr_input = icmp6_input, .pr_ctlinput = ping_ctlinput,
	  .pr_ctloutput = rip_ctloutput, .pr_usrreqs = &rip_usrreqs },
	{ .pr_type = SOCK_DGRAM, .pr_domain = PF_INET6, .pr_protocol = IPPROTO_ICMPV6,
	  .pr_flags = DGRAM_FLAGS, .pr_input = icmp6_input, .pr_ctlinput = ping_ctlinput,
	  .pr_ctloutput = rip_ctloutput, .pr_usrreqs = &ping_usrreqs },
	{ .pr_type = SOCK_RAW, .pr_domain = PF_INET6, .pr_protocol = 0,
	  .pr_flags = DGRAM_FLAGS, .pr_input = rip_input, .pr_ctlinput = rip_ctlinput,
	  .pr_ctloutput = rip_ctloutput, .pr_usrreqs = &rip_usrreqs },
};
/* clang-format on */

/* The row that takes packets of a protocol; the last one takes the rest. */
uint8_t
in_protorow(uint8_t proto)
{
	for (uint8_t i = 0; i < nitems(inetsw); i++) {
		if (inetsw[i].pr_protocol == proto && proto != 0) {
			return i;
		}
	}
	return nitems(inetsw) - 1;
}

const struct domain inetdomain = {
	.dom_family = AF_INET,
	.dom_name = "internet",
	.dom_protosw = inetsw,
	.dom_nprotosw = nitems(inetsw),
	.dom_init = ip_init,
	.dom_fini = ip_fini,
};

const struct domain inet6domain = {
	.dom_family = AF_INET6,
	.dom_name = "internet6",
	.dom_protosw = inet6sw,
	.dom_nprotosw = nitems(inet6sw),
};
