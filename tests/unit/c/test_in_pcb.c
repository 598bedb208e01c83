/* Who may bind what, who gets which packet, and ports nobody asked for. */
#include "tests/unit/c/inetstack.h"

enum { REUSE = 1, PORT = 2 }; /* SO_REUSEADDR, SO_REUSEPORT */

static struct socket *
sock(struct stack *s, int family, int type, int opts)
{
	struct socket *so = is_socket(s, family, type, 0);

	if (opts & REUSE) {
		CHECK_EQ(is_setint(so, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	}
	if (opts & PORT) {
		CHECK_EQ(is_setint(so, SOL_SOCKET, SO_REUSEPORT, 1), 0);
	}
	return so;
}

/* What Linux answers to the second of two binds to one port. */
TEST(bind_rules)
{
	static const struct {
		int type, opts1, opts2;
		const char *addr1, *addr2;
		int listen, error;
	} rules[] = {
		{ SOCK_DGRAM, 0, 0, "0.0.0.0", "0.0.0.0", 0, EADDRINUSE },
		{ SOCK_DGRAM, 0, 0, "0.0.0.0", "127.0.0.1", 0, EADDRINUSE },
		{ SOCK_DGRAM, 0, 0, "127.0.0.1", "127.0.0.2", 0, 0 },
		{ SOCK_DGRAM, REUSE, 0, "0.0.0.0", "0.0.0.0", 0, EADDRINUSE },
		{ SOCK_DGRAM, REUSE, REUSE, "0.0.0.0", "0.0.0.0", 0, 0 },
		{ SOCK_DGRAM, PORT, PORT, "0.0.0.0", "0.0.0.0", 0, 0 },
		{ SOCK_DGRAM, PORT, REUSE, "0.0.0.0", "0.0.0.0", 0, EADDRINUSE },
		{ SOCK_STREAM, 0, 0, "0.0.0.0", "127.0.0.1", 0, EADDRINUSE },
		{ SOCK_STREAM, REUSE, REUSE, "0.0.0.0", "0.0.0.0", 0, 0 },
		{ SOCK_STREAM, REUSE, REUSE, "0.0.0.0", "0.0.0.0", 1,
		    EADDRINUSE },
		{ SOCK_STREAM, REUSE, REUSE, "127.0.0.1", "10.0.0.1", 1, 0 },
		{ SOCK_STREAM, PORT, PORT, "0.0.0.0", "0.0.0.0", 1, 0 },
		{ SOCK_STREAM, PORT, 0, "0.0.0.0", "0.0.0.0", 1, EADDRINUSE },
		{ SOCK_STREAM, 0, 0, "::", "0.0.0.0", 0, EADDRINUSE },
		{ SOCK_STREAM, 0, 0, "0.0.0.0", "::", 0, EADDRINUSE },
		{ SOCK_STREAM, 0, 0, "::", "127.0.0.1", 0, EADDRINUSE },
		{ SOCK_STREAM, 0, 0, "::1", "127.0.0.1", 0, 0 },
		{ SOCK_STREAM, 0, 0, "::1", "0.0.0.0", 0, 0 },
		{ SOCK_DGRAM, 0, 0, "::", "0.0.0.0", 0, EADDRINUSE },
		{ SOCK_DGRAM, 0, 0, "::1", "::", 0, EADDRINUSE },
	};
	struct testif *ti;
	struct stack *s = is_new(&ti);

	for (size_t i = 0; i < nitems(rules); i++) {
		int f1 = strchr(rules[i].addr1, ':') ? AF_INET6 : AF_INET;
		int f2 = strchr(rules[i].addr2, ':') ? AF_INET6 : AF_INET;
		struct socket *a = sock(s, f1, rules[i].type, rules[i].opts1);
		struct socket *b = sock(s, f2, rules[i].type, rules[i].opts2);

		printf(" rule %zu\n", i);
		CHECK_EQ(is_bind(a, rules[i].addr1, 80), 0);
		if (rules[i].listen) {
			CHECK_EQ(solisten(a, 1), 0);
		}
		CHECK_EQ(is_bind(b, rules[i].addr2, 80), rules[i].error);
		soclose(a);
		if (rules[i].error != 0) {
			CHECK_EQ(is_bind(b, rules[i].addr2, 80), 0);
		}
		soclose(b);
	}
	is_free(s);
}

TEST(bind_errors)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = sock(s, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_storage ss;
	socklen_t len;

	CHECK_EQ(is_bind(a, "192.0.2.1", 80), EADDRNOTAVAIL);
	len = is_sa(&ss, "::1", 80);
	CHECK_EQ(sobind(a, (struct sockaddr *)&ss, len), EAFNOSUPPORT);
	len = is_sa(&ss, "127.0.0.1", 80);
	CHECK_EQ(sobind(a, (struct sockaddr *)&ss, len - 1), EINVAL);
	CHECK_EQ(is_bind(a, "127.9.9.9", 80), 0); /* all of 127/8 */
	CHECK_EQ(is_bind(a, "127.0.0.1", 81), EINVAL);
	soclose(a);
	a = sock(s, AF_INET, SOCK_DGRAM, 0);
	CHECK_EQ(is_setint(a, IPPROTO_IP, IP_FREEBIND, 1), 0);
	CHECK_EQ(is_bind(a, "192.0.2.1", 80), 0);
	soclose(a);
	/* V6ONLY: IPv4 stays free beside it, and cannot be asked of it */
	a = sock(s, AF_INET6, SOCK_DGRAM, 0);
	CHECK_EQ(is_setint(a, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
	CHECK_EQ(is_bind(a, "::ffff:127.0.0.1", 80), EINVAL);
	CHECK_EQ(is_bind(a, "::", 80), 0);
	CHECK_EQ(is_setint(a, IPPROTO_IPV6, IPV6_V6ONLY, 0), EINVAL);
	CHECK_EQ(is_connect(a, "::ffff:127.0.0.1", 80), ENETUNREACH);
	soclose(a);
	is_free(s);
}

/* Two sockets let in by SO_REUSEADDR cannot both listen. */
TEST(listen_conflict)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *a = sock(s, AF_INET, SOCK_STREAM, REUSE);
	struct socket *b = sock(s, AF_INET, SOCK_STREAM, REUSE);

	CHECK_EQ(is_bind(a, "0.0.0.0", 80), 0);
	CHECK_EQ(is_bind(b, "0.0.0.0", 80), 0);
	CHECK_EQ(in_pcblisten(sotoinpcb(a)), 0);
	a->so_options |= SOO_ACCEPTCONN;
	CHECK_EQ(in_pcblisten(sotoinpcb(b)), EADDRINUSE);
	a->so_options &= ~(uint32_t)SOO_ACCEPTCONN;
	CHECK_EQ(in_pcblisten(sotoinpcb(b)), 0);
	soclose(a);
	soclose(b);
	is_free(s);
}

static struct inpcb *
look(struct stack *s, const char *src, uint16_t sport, const char *dst,
    uint16_t dport, const struct ifnet *ifp)
{
	union inaddr f = ls_ip(src), l = ls_ip(dst);

	return in_pcblookup(s->s_udbinfo, &f, sport, &l, dport, true, ifp);
}

/* The closest fit wins: 4-tuple, address, device, family; any-port last. */
TEST(lookup_order)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so[6];
	struct sockopt dev = { SOPT_SET, SOL_SOCKET, SO_BINDTODEVICE,
		(void *)(uintptr_t)"net0", 5 };

	for (int i = 0; i < 6; i++) {
		so[i] = sock(s, i == 0 ? AF_INET6 : AF_INET, SOCK_DGRAM, REUSE);
	}
	so[5]->so_options |= SOO_ANYIP;
	CHECK_EQ(is_bind(so[0], "::", 53), 0);
	CHECK_EQ(is_bind(so[5], "0.0.0.0", 0), 0);
	CHECK_EQ(is_port(so[5]), 0);
	CHECK(look(s, "10.0.0.2", 9, "10.0.0.1", 53, NULL) == sotoinpcb(so[0]));
	CHECK(look(s, "10.0.0.2", 9, "10.0.0.1", 54, NULL) == sotoinpcb(so[5]));
	CHECK(look(s, "10.0.0.2", 9, "192.0.2.7", 54, NULL) == sotoinpcb(so[5]));
	CHECK_EQ(is_bind(so[1], "0.0.0.0", 53), 0);
	CHECK(look(s, "10.0.0.2", 9, "10.0.0.1", 53, NULL) == sotoinpcb(so[1]));
	CHECK(look(s, "::1", 9, "::1", 53, NULL) == sotoinpcb(so[0]));
	CHECK_EQ(sosetopt(so[2], &dev), 0);
	CHECK_EQ(is_bind(so[2], "0.0.0.0", 53), 0);
	CHECK(look(s, "10.0.0.2", 9, "10.0.0.1", 53, &ti->ti_if) ==
	    sotoinpcb(so[2]));
	CHECK(look(s, "10.0.0.2", 9, "10.0.0.1", 53, s->s_if->ifs_lo) ==
	    sotoinpcb(so[1]));
	CHECK_EQ(is_bind(so[3], "10.0.0.1", 53), 0);
	CHECK(look(s, "10.0.0.2", 9, "10.0.0.1", 53, &ti->ti_if) ==
	    sotoinpcb(so[3]));
	CHECK_EQ(is_bind(so[4], "10.0.0.1", 53), 0);
	CHECK_EQ(is_connect(so[4], "10.0.0.2", 9), 0);
	CHECK(look(s, "10.0.0.2", 9, "10.0.0.1", 53, &ti->ti_if) ==
	    sotoinpcb(so[4]));
	CHECK(look(s, "10.0.0.3", 9, "10.0.0.1", 53, &ti->ti_if) ==
	    sotoinpcb(so[3]));
	for (int i = 0; i < 6; i++) {
		soclose(so[i]);
	}
	is_free(s);
}

TEST(reuseport_spreads)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so[4];
	int got[4] = { 0 };

	for (int i = 0; i < 4; i++) {
		so[i] = sock(s, AF_INET, SOCK_DGRAM, PORT);
		CHECK_EQ(is_bind(so[i], "0.0.0.0", 53), 0);
	}
	for (uint16_t p = 1; p <= 4000; p++) {
		struct inpcb *inp = look(s, "10.0.0.2", p, "10.0.0.1", 53, NULL);

		CHECK(inp == look(s, "10.0.0.2", p, "10.0.0.1", 53, NULL));
		for (int i = 0; i < 4; i++) {
			got[i] += inp == sotoinpcb(so[i]);
		}
	}
	for (int i = 0; i < 4; i++) {
		CHECK(got[i] > 800 && got[i] < 1200);
		soclose(so[i]);
	}
	is_free(s);
}

/* The table grows, and finds every one of many. */
TEST(many_connected)
{
	enum { N = 3000 };
	struct testif *ti;
	struct stack *s = is_new(&ti);
	static struct socket *so[N];
	union inaddr l = ls_ip("10.0.0.1"), f = ls_ip("10.0.0.2");

	for (int i = 0; i < N; i++) {
		so[i] = sock(s, AF_INET, SOCK_STREAM, 0);
		CHECK_EQ(in_pcbsetpair(sotoinpcb(so[i]), &l, 80, &f,
			     (uint16_t)(i + 1)),
		    0);
	}
	CHECK(s->s_tcbinfo->ipi_mask + 1 >= N);
	for (int i = 0; i < N; i++) {
		CHECK(in_pcblookup(s->s_tcbinfo, &f, (uint16_t)(i + 1), &l, 80,
			  false, NULL) == sotoinpcb(so[i]));
	}
	CHECK(in_pcblookup(s->s_tcbinfo, &f, N + 1, &l, 80, true, NULL) == NULL);
	CHECK_EQ(in_pcbsetpair(sotoinpcb(so[0]), &l, 80, &f, 2), EADDRINUSE);
	for (int i = 0; i < N; i++) {
		soclose(so[i]);
	}
	CHECK_EQ(s->s_tcbinfo->ipi_nconn, 0);
	CHECK(in_pcbport(s->s_tcbinfo, 80) == NULL);
	is_free(s);
}

/* Ephemeral ports: in range, not in order, shared by TCP between peers. */
TEST(ephemeral)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *so[12];
	int ordered = 0;
	uint16_t port;

	for (int i = 0; i < 12; i++) {
		so[i] = sock(s, AF_INET, SOCK_DGRAM, 0);
		CHECK_EQ(is_bind(so[i], "0.0.0.0", 0), 0);
		CHECK(is_port(so[i]) >= 32768 && is_port(so[i]) <= 60999);
		ordered += i > 0 && is_port(so[i]) == is_port(so[i - 1]) + 1;
	}
	CHECK(ordered < 3);
	for (int i = 0; i < 12; i++) {
		soclose(so[i]);
	}
	CHECK_EQ(sysctl_set(s, "net.inet.ip.portrange.first", 40000), 0);
	CHECK_EQ(sysctl_set(s, "net.inet.ip.portrange.last", 40001), 0);
	for (int i = 0; i < 6; i++) {
		so[i] = sock(s, AF_INET, SOCK_STREAM, 0);
	}
	CHECK_EQ(is_connect(so[0], "10.0.0.2", 80), 0);
	CHECK_EQ(is_connect(so[1], "10.0.0.2", 80), 0);
	CHECK_EQ(is_connect(so[2], "10.0.0.2", 80), EADDRNOTAVAIL);
	CHECK(in_isany(&sotoinpcb(so[2])->inp_laddr));
	CHECK_EQ(is_connect(so[2], "10.0.0.3", 80), 0);
	CHECK_EQ(is_connect(so[3], "10.0.0.2", 81), 0);
	/* bind(0) needs one alone */
	CHECK_EQ(is_bind(so[4], "0.0.0.0", 0), EADDRINUSE);
	port = is_port(so[0]);
	CHECK_EQ(is_bind(so[4], "0.0.0.0", port), EADDRINUSE);
	CHECK_EQ(is_bind(so[4], "127.0.0.1", port), 0);
	for (int i = 0; i < 6; i++) {
		soclose(so[i]);
	}
	is_free(s);
}

/* bind() to port 0 does not look at every port for every socket, also when there is
 * none left; and a port given up is found. */
TEST(many_bound_to_port_0)
{
	enum { N = 2000, FIRST = 40000 };
	static struct socket *so[2 * N];
	struct testif *ti;
	struct stack *s = is_new(&ti);

	CHECK_EQ(sysctl_set(s, "net.inet.ip.portrange.first", FIRST), 0);
	CHECK_EQ(sysctl_set(s, "net.inet.ip.portrange.last", FIRST + N - 1), 0);
	for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
		const struct inpcbinfo *ipi =
		    type == SOCK_STREAM ? s->s_tcbinfo : s->s_udbinfo;
		struct socket *more = sock(s, AF_INET, type, 0);
		uint64_t before;
		uint16_t port;

		for (int i = 0; i < N; i++) {
			so[i] = sock(s, AF_INET, type, 0);
			CHECK_EQ(is_bind(so[i], "127.0.0.1", 0), 0);
		}
		CHECK(ipi->ipi_probes < 20 * N);
		for (int i = N; i < 2 * N; i++) {
			so[i] = sock(s, AF_INET, type, 0);
			CHECK_EQ(is_bind(so[i], "10.0.0.1", 0), 0);
		}
		CHECK(ipi->ipi_probes < 150 * N);
		before = ipi->ipi_probes;
		for (int i = 0; i < N; i++) {
			CHECK_EQ(is_bind(more, "127.0.0.1", 0), EADDRINUSE);
		}
		CHECK(ipi->ipi_probes - before < 40 * N);
		CHECK_EQ(is_bind(more, "0.0.0.0", 0), EADDRINUSE);
		port = is_port(so[7]);
		soclose(so[7]);
		CHECK_EQ(is_bind(more, "127.0.0.1", 0), 0);
		CHECK_EQ(is_port(more), port);
		so[7] = more;
		for (int i = 0; i < 2 * N; i++) {
			soclose(so[i]);
		}
		CHECK(in_pcbport(ipi, port) == NULL);
		CHECK_EQ(ipi->ipi_used[port / 64], 0);
	}
	is_free(s);
}

TEST(connect_errors)
{
	struct testif *ti;
	struct stack *s = is_new(&ti);
	struct socket *t = sock(s, AF_INET, SOCK_STREAM, 0);
	struct socket *u = sock(s, AF_INET6, SOCK_DGRAM, 0);

	CHECK_EQ(is_connect(t, "224.0.0.5", 80), ENETUNREACH);
	CHECK_EQ(is_connect(t, "255.255.255.255", 80), ENETUNREACH);
	CHECK_EQ(is_connect(t, "10.0.0.255", 80), ENETUNREACH);
	CHECK_EQ(is_connect(t, "192.0.2.1", 80), ENETUNREACH);
	CHECK_EQ(is_connect(t, "127.0.0.1", 0), ECONNREFUSED);
	CHECK(!in_pcbconnected(sotoinpcb(t)));
	CHECK_EQ(is_port(t), 0);
	CHECK_EQ(is_connect(u, "fe80::1", 80), EINVAL); /* which link? */
	CHECK_EQ(is_bind(u, "::1", 0), 0);
	CHECK_EQ(is_connect(u, "::ffff:127.0.0.1", 80), ENETUNREACH);
	soclose(t);
	soclose(u);
	is_free(s);
}

TESTS(RUN(bind_rules), RUN(bind_errors), RUN(listen_conflict),
    RUN(lookup_order), RUN(reuseport_spreads), RUN(many_connected),
    RUN(ephemeral), RUN(many_bound_to_port_0), RUN(connect_errors))
