/*
 * in_mcast.c - groups a socket has joined, with source filters (RFC 3376 2,
 * RFC 3678), and where it sends to groups.
 */
#include "bsdcore/net/if.h"
#include "bsdcore/net/route.h"
#include "bsdcore/netinet/in_pcb.h"
#include "bsdcore/netinet/ip_var.h"
#include "bsdcore/sys/socketvar.h"

#define IN_MAXSOURCES 10u /* of one membership; Linux's igmp_max_msf */

struct in_member {
	LIST_ENTRY(in_member) im_link;
	union inaddr im_group;
	uint32_t im_ifindex;
	bool im_include; /* else all but those listed */
	uint32_t im_nsrc;
	union inaddr im_src[IN_MAXSOURCES];
};

struct ip_moptions {
	LIST_HEAD(, in_member) imo_members;
	uint32_t imo_count;
	uint32_t imo_ifindex;	 /* IP_MULTICAST_IF */
	union inaddr imo_ifaddr; /* as it was given */
};

enum mcast_op {
	MC_JOIN,
	MC_LEAVE,
	MC_BLOCK,
	MC_UNBLOCK,
	MC_JOINSRC,
	MC_LEAVESRC,
};

static struct ip_moptions *
mcast_options(struct inpcb *inp)
{
	if (inp->inp_moptions == NULL) {
		inp->inp_moptions = calloc(1, sizeof(*inp->inp_moptions));
	}
	return inp->inp_moptions;
}

uint32_t
ip_mcast_scope(const struct inpcb *inp)
{
	return inp->inp_moptions != NULL ? inp->inp_moptions->imo_ifindex : 0;
}

static struct in_member *
mcast_find(const struct inpcb *inp, const union inaddr *group, uint32_t ifindex)
{
	struct in_member *im;

	if (inp->inp_moptions == NULL) {
		return NULL;
	}
	LIST_FOREACH (im, &inp->inp_moptions->imo_members, im_link) {
		if (in_eq(&im->im_group, group) &&
		    (ifindex == 0 || im->im_ifindex == ifindex)) {
			return im;
		}
	}
	return NULL;
}

static int
mcast_srcindex(const struct in_member *im, const union inaddr *src)
{
	for (uint32_t i = 0; i < im->im_nsrc; i++) {
		if (in_eq(&im->im_src[i], src)) {
			return (int)i;
		}
	}
	return -1;
}

bool
ip_mcast_wanted(const struct inpcb *inp, const struct ifnet *ifp,
    const union inaddr *dst, const union inaddr *src)
{
	const struct in_member *im = mcast_find(inp, dst, ifp->if_index);

	if (im == NULL) {
		return (inp->inp_flags & INP_MCASTALL) != 0;
	}
	return (mcast_srcindex(im, src) >= 0) == im->im_include;
}

static void
mcast_free(struct inpcb *inp, struct in_member *im)
{
	struct ifnet *ifp = if_byindex(inp->inp_info->ipi_stack, im->im_ifindex);

	if (ifp != NULL) {
		if_delmulti(ifp, &im->im_group);
	}
	LIST_REMOVE(im, im_link);
	inp->inp_moptions->imo_count--;
	free(im);
}

void
ip_freemoptions(struct inpcb *inp)
{
	struct in_member *im;

	if (inp->inp_moptions == NULL) {
		return;
	}
	while ((im = LIST_FIRST(&inp->inp_moptions->imo_members)) != NULL) {
		mcast_free(inp, im);
	}
	free(inp->inp_moptions);
	inp->inp_moptions = NULL;
}

static int
mcast_join(struct inpcb *inp, const union inaddr *group, struct ifnet *ifp,
    struct in_member **out)
{
	struct ip_moptions *imo = mcast_options(inp);
	struct in_member *im;
	int error;

	if (imo == NULL ||
	    imo->imo_count >=
		inp->inp_info->ipi_stack->s_ip->ips_maxmemberships) {
		return ENOBUFS;
	}
	im = calloc(1, sizeof(*im));
	if (im == NULL) {
		return ENOBUFS;
	}
	error = if_addmulti(ifp, group);
	if (error != 0) {
		free(im);
		return error;
	}
	im->im_group = *group;
	im->im_ifindex = ifp->if_index;
	LIST_INSERT_HEAD(&imo->imo_members, im, im_link);
	imo->imo_count++;
	*out = im;
	return 0;
}

static int
mcast_addsource(struct in_member *im, const union inaddr *src)
{
	if (mcast_srcindex(im, src) >= 0) {
		return EADDRNOTAVAIL;
	}
	if (im->im_nsrc == IN_MAXSOURCES) {
		return ENOBUFS;
	}
	im->im_src[im->im_nsrc++] = *src;
	return 0;
}

static int
mcast_delsource(struct in_member *im, const union inaddr *src)
{
	int i = mcast_srcindex(im, src);

	if (i < 0) {
		return EADDRNOTAVAIL;
	}
	im->im_src[i] = im->im_src[--im->im_nsrc];
	return 0;
}

static int
mcast_do(struct inpcb *inp, enum mcast_op op, const union inaddr *group,
    struct ifnet *ifp, const union inaddr *src)
{
	struct in_member *im = mcast_find(inp, group, ifp->if_index);
	int error = 0;

	if (op == MC_JOIN) {
		return im != NULL ? EADDRINUSE :
				    mcast_join(inp, group, ifp, &im);
	}
	if (op == MC_JOINSRC && im == NULL) {
		error = mcast_join(inp, group, ifp, &im);
		if (error != 0) {
			return error;
		}
		im->im_include = true;
		return mcast_addsource(im, src);
	}
	if (im == NULL) {
		return op == MC_LEAVE || op == MC_LEAVESRC ? EADDRNOTAVAIL :
							     EINVAL;
	}
	switch (op) {
	case MC_LEAVE:
		mcast_free(inp, im);
		return 0;
	case MC_BLOCK:
	case MC_UNBLOCK:
		if (im->im_include) {
			return EINVAL;
		}
		return op == MC_BLOCK ? mcast_addsource(im, src) :
					mcast_delsource(im, src);
	case MC_JOINSRC:
		return im->im_include ? mcast_addsource(im, src) : EINVAL;
	default:
		if (!im->im_include) {
			return EINVAL;
		}
		error = mcast_delsource(im, src);
		if (error == 0 && im->im_nsrc == 0) {
			mcast_free(inp, im);
		}
		return error;
	}
}

/* The interface meant by an index, an address of ours, or neither (the one
 * packets to the group would leave by). */
static struct ifnet *
mcast_ifnet(struct inpcb *inp, uint32_t index, const union inaddr *addr,
    const union inaddr *group)
{
	struct stack *s = inp->inp_info->ipi_stack;
	struct rtentry *rt;
	struct ifnet *ifp;

	if (index != 0) {
		return if_byindex(s, index);
	}
	if (addr != NULL && !in_isany(addr)) {
		struct ifaddr *ifa = ifa_ifwithaddr(s, addr);

		return ifa != NULL ? ifa->ifa_ifp : NULL;
	}
	if (inp->inp_socket->so_boundif != 0) {
		return if_byindex(s, inp->inp_socket->so_boundif);
	}
	if (ip_route(s, NULL, group, 0, &rt, &ifp) == 0) {
		return ifp;
	}
	/* Alone with oneself: the loopback will do. */
	return s->s_if->ifs_lo;
}

/* Checked arguments of one request. */
static int
mcast_request(struct inpcb *inp, enum mcast_op op, const union inaddr *group,
    uint32_t index, const union inaddr *addr, const union inaddr *src)
{
	struct in_member *im;
	struct ifnet *ifp;

	if (!in_ismulticast(group)) {
		return EINVAL;
	}
	if (op == MC_LEAVE && index == 0 && (addr == NULL || in_isany(addr))) {
		im = mcast_find(inp, group, 0);
		if (im == NULL) {
			return EADDRNOTAVAIL;
		}
		mcast_free(inp, im);
		return 0;
	}
	ifp = mcast_ifnet(inp, index, addr, group);
	return ifp == NULL ? ENODEV : mcast_do(inp, op, group, ifp, src);
}

static enum mcast_op
mcast_opof(int name)
{
	switch (name) {
	case IP_ADD_MEMBERSHIP:
	case MCAST_JOIN_GROUP:
	case IPV6_JOIN_GROUP:
		return MC_JOIN;
	case IP_DROP_MEMBERSHIP:
	case MCAST_LEAVE_GROUP:
	case IPV6_LEAVE_GROUP:
		return MC_LEAVE;
	case IP_BLOCK_SOURCE:
	case MCAST_BLOCK_SOURCE:
		return MC_BLOCK;
	case IP_UNBLOCK_SOURCE:
	case MCAST_UNBLOCK_SOURCE:
		return MC_UNBLOCK;
	case IP_ADD_SOURCE_MEMBERSHIP:
	case MCAST_JOIN_SOURCE_GROUP:
		return MC_JOINSRC;
	default:
		return MC_LEAVESRC;
	}
}

static int
mcast_member4(struct inpcb *inp, const struct sockopt *sopt)
{
	struct ip_mreqn mreq = { 0 };
	union inaddr group, addr;
	int error =
	    sooptcopyin(sopt, &mreq, sizeof(mreq), sizeof(struct ip_mreq));

	if (error != 0) {
		return error;
	}
	group = in_map4(mreq.imr_multiaddr.s_addr);
	addr = in_map4(mreq.imr_address.s_addr);
	return mcast_request(inp, mcast_opof(sopt->sopt_name), &group,
	    (uint32_t)mreq.imr_ifindex, &addr, NULL);
}

static int
mcast_source4(struct inpcb *inp, const struct sockopt *sopt)
{
	struct ip_mreq_source mreq;
	union inaddr group, addr, src;
	int error = sooptcopyin(sopt, &mreq, sizeof(mreq), sizeof(mreq));

	if (error != 0) {
		return error;
	}
	group = in_map4(mreq.imr_multiaddr.s_addr);
	addr = in_map4(mreq.imr_interface.s_addr);
	src = in_map4(mreq.imr_sourceaddr.s_addr);
	return mcast_request(inp, mcast_opof(sopt->sopt_name), &group, 0, &addr,
	    &src);
}

static int
mcast_member6(struct inpcb *inp, const struct sockopt *sopt)
{
	struct ipv6_mreq mreq;
	union inaddr group;
	int error = sooptcopyin(sopt, &mreq, sizeof(mreq), sizeof(mreq));

	if (error != 0) {
		return error;
	}
	memcpy(&group, &mreq.ipv6mr_multiaddr, sizeof(group));
	if (in_is4(&group)) {
		return EINVAL;
	}
	return mcast_request(inp, mcast_opof(sopt->sopt_name), &group,
	    mreq.ipv6mr_interface, NULL, NULL);
}

/* RFC 3678's protocol-independent requests. */
static int
mcast_group(struct inpcb *inp, const struct sockopt *sopt)
{
	struct group_source_req gsr = { 0 };
	struct group_req gr;
	enum mcast_op op = mcast_opof(sopt->sopt_name);
	union inaddr group, src;
	uint16_t port;
	int error;

	if (op == MC_JOIN || op == MC_LEAVE) {
		error = sooptcopyin(sopt, &gr, sizeof(gr), sizeof(gr));
		if (error == 0) {
			gsr.gsr_interface = gr.gr_interface;
			gsr.gsr_group = gr.gr_group;
		}
	} else {
		error = sooptcopyin(sopt, &gsr, sizeof(gsr), sizeof(gsr));
		if (error == 0) {
			error = in_sockaddr_get(AF_INET6,
			    (struct sockaddr *)&gsr.gsr_source,
			    sizeof(gsr.gsr_source), &src, &port, NULL);
		}
	}
	if (error == 0) {
		error =
		    in_sockaddr_get(AF_INET6, (struct sockaddr *)&gsr.gsr_group,
			sizeof(gsr.gsr_group), &group, &port, NULL);
	}
	return error != 0 ?
	    error :
	    mcast_request(inp, op, &group, gsr.gsr_interface, NULL, &src);
}

/* IP_MULTICAST_IF by address, mreq or mreqn; IPV6_MULTICAST_IF by index. */
static int
mcast_setif(struct inpcb *inp, const struct sockopt *sopt)
{
	struct stack *s = inp->inp_info->ipi_stack;
	struct ip_moptions *imo = mcast_options(inp);
	struct ip_mreqn mreq = { 0 };
	union inaddr addr = { .ia_b = { 0 } };
	uint32_t index = 0;
	int val = 0, error;

	if (imo == NULL) {
		return ENOBUFS;
	}
	if (sopt->sopt_level == IPPROTO_IPV6) {
		error = sooptint(sopt, &val);
		index = (uint32_t)val;
	} else if (sopt->sopt_valsize >= sizeof(struct ip_mreq)) {
		error = sooptcopyin(sopt, &mreq, sizeof(mreq),
		    sizeof(struct ip_mreq));
		index = (uint32_t)mreq.imr_ifindex;
		addr = in_map4(mreq.imr_address.s_addr);
	} else {
		error = sooptcopyin(sopt, &mreq.imr_address,
		    sizeof(mreq.imr_address), sizeof(mreq.imr_address));
		addr = in_map4(mreq.imr_address.s_addr);
	}
	if (error != 0) {
		return error;
	}
	if (index == 0 && in_is4(&addr) && !in_isany(&addr)) {
		const struct ifaddr *ifa = ifa_ifwithaddr(s, &addr);

		if (ifa == NULL) {
			return EADDRNOTAVAIL;
		}
		index = ifa->ifa_ifp->if_index;
	}
	if (index != 0 && if_byindex(s, index) == NULL) {
		return sopt->sopt_level == IPPROTO_IPV6 ? ENODEV : EADDRNOTAVAIL;
	}
	imo->imo_ifindex = index;
	imo->imo_ifaddr = addr;
	return 0;
}

static int
mcast_getif(struct inpcb *inp, struct sockopt *sopt)
{
	const struct ip_moptions *imo = inp->inp_moptions;
	uint32_t v = 0;

	if (imo != NULL) {
		v = sopt->sopt_level == IPPROTO_IPV6 ? imo->imo_ifindex :
						       imo->imo_ifaddr.ia_w[3];
	}
	return sooptcopyout(sopt, &v, sizeof(v));
}

static int
mcast_ctl6(struct inpcb *inp, struct sockopt *sopt)
{
	switch (sopt->sopt_name) {
	case IPV6_MULTICAST_IF:
		return sopt->sopt_dir == SOPT_GET ? mcast_getif(inp, sopt) :
						    mcast_setif(inp, sopt);
	case IPV6_JOIN_GROUP:
	case IPV6_LEAVE_GROUP:
		return sopt->sopt_dir == SOPT_GET ? ENOPROTOOPT :
						    mcast_member6(inp, sopt);
	default:
		return ENOPROTOOPT;
	}
}

int
ip_mcast_ctloutput(struct inpcb *inp, struct sockopt *sopt)
{
	bool get = sopt->sopt_dir == SOPT_GET;

	switch (sopt->sopt_name) {
	case MCAST_JOIN_GROUP:
	case MCAST_LEAVE_GROUP:
	case MCAST_BLOCK_SOURCE:
	case MCAST_UNBLOCK_SOURCE:
	case MCAST_JOIN_SOURCE_GROUP:
	case MCAST_LEAVE_SOURCE_GROUP:
		return get ? ENOPROTOOPT : mcast_group(inp, sopt);
	}
	if (sopt->sopt_level == IPPROTO_IPV6) {
		return mcast_ctl6(inp, sopt);
	}
	switch (sopt->sopt_name) {
	case IP_MULTICAST_IF:
		return get ? mcast_getif(inp, sopt) : mcast_setif(inp, sopt);
	case IP_ADD_MEMBERSHIP:
	case IP_DROP_MEMBERSHIP:
		return get ? ENOPROTOOPT : mcast_member4(inp, sopt);
	case IP_BLOCK_SOURCE:
	case IP_UNBLOCK_SOURCE:
	case IP_ADD_SOURCE_MEMBERSHIP:
	case IP_DROP_SOURCE_MEMBERSHIP:
		return get ? ENOPROTOOPT : mcast_source4(inp, sopt);
	default:
		return ENOPROTOOPT;
	}
}
