/* A waiting thread in the netisr's place, and what may end its wait. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "bsdcore/api.h"
#include "nic/api.h"
#include "nic/port.h"
#include "tests/unit/c/check.h"

#define SEC 1000000000ll

struct rig {
	struct stack *r_s;
	struct pkt_pool *r_pool[2];
	struct port *r_far; /* the other end of the wire */
	unsigned r_if;
	struct socket *r_so; /* UDP, connected to the neighbour */
	pthread_t r_thread;
	atomic_bool r_stop;
	long r_result;
};

static struct bsd_addr
addr(const char *text, unsigned port)
{
	struct bsd_addr a = { .family = AF_INET, .port = (unsigned short)port };

	CHECK_EQ(inet_pton(AF_INET, text, a.addr), 1);
	return a;
}

/* Wait until the netisr has answered a frame: from then on it only sleeps. */
static void
rig_settle(struct rig *r)
{
	static const uint8_t request[42] = { 255, 255, 255, 255, 255, 255, 2, 0,
		0, 0, 0, 8, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 8, 10,
		0, 0, 8, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1 };
	struct pollfd pfd = { .fd = port_fd(r->r_far), .events = POLLIN };
	uint8_t b[64] = { 0 };

	CHECK_EQ(nic_send(r->r_far, request, sizeof(request), 0), 0);
	while (b[13] != 6 || b[21] != 2) {
		if (nic_recv(r->r_far, b, sizeof(b), 0) == 0) {
			CHECK_EQ(poll(&pfd, 1, 10000), 1);
		}
	}
}

static void
rig_new(struct rig *r)
{
	struct bsd_config cfg = { .name = "rig", .seed = { 1, 2, 3, 4 } };
	struct bsd_addr a = addr("10.0.0.1", 0), peer = addr("10.0.0.9", 7);
	const unsigned char mac[6] = { 2, 0, 0, 0, 0, 9 };
	struct port *near;
	int index;

	memset(r, 0, sizeof(*r));
	CHECK_EQ(bsd_stack_new(&cfg, &r->r_s), 0);
	CHECK_EQ(bsd_sysctl_set(r->r_s, "kern.ipc.spin", 0), 0);
	CHECK_EQ(bsd_start(r->r_s), 0);
	r->r_pool[0] = nic_pool_new(1 << 20);
	r->r_pool[1] = nic_pool_new(1 << 20);
	CHECK_EQ(nic_feth_open(r->r_pool[0], r->r_pool[1], 0, 1500, 64, 0, 1,
		     &near, &r->r_far),
	    0);
	index = bsd_if_attach(r->r_s, near, NULL);
	CHECK(index > 0);
	r->r_if = (unsigned)index;
	CHECK_EQ(bsd_if_addaddr(r->r_s, r->r_if, &a, 24), 0);
	CHECK_EQ(bsd_arp_add(r->r_s, r->r_if, &peer, mac), 0);
	CHECK_EQ(bsd_socket(r->r_s, AF_INET, SOCK_DGRAM, 0, &r->r_so), 0);
	CHECK_EQ(bsd_connect(r->r_so, &peer, 0), 0);
	rig_settle(r);
}

static void
rig_free(struct rig *r)
{
	CHECK_EQ(bsd_close(r->r_so), 0);
	bsd_stack_free(r->r_s);
	nic_close(r->r_far);
	nic_pool_free(r->r_pool[0]);
	nic_pool_free(r->r_pool[1]);
}

static uint64_t
stat(struct stack *s, const char *want)
{
	const char *name;
	uint64_t value;

	for (int i = 0; bsd_stat(s, i, &name, &value) == 0; i++) {
		if (strcmp(name, want) == 0) {
			return value;
		}
	}
	fprintf(stderr, "no counter %s\n", want);
	abort();
}

static void
swap(uint8_t *a, uint8_t *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t t = a[i];

		a[i] = b[i];
		b[i] = t;
	}
}

/* Send every IPv4 packet back; sums do not mind what is swapped. */
static void *
reflector(void *arg)
{
	struct rig *r = arg;
	struct pollfd pfd = { .fd = port_fd(r->r_far), .events = POLLIN };
	uint8_t b[2048];
	long n;

	while (!atomic_load(&r->r_stop)) {
		n = nic_recv(r->r_far, b, sizeof(b), 0);
		if (n == 0) {
			(void)poll(&pfd, 1, 5);
			continue;
		}
		if (n >= 42 && b[12] == 8 && b[13] == 0) {
			swap(b, b + 6, 6);
			swap(b + 26, b + 30, 4);
			swap(b + 34, b + 36, 2);
			CHECK_EQ(nic_send(r->r_far, b, (size_t)n, 0), 0);
		}
	}
	return NULL;
}

/* Round trips, so many that waiting threads are trusted to drive. */
static void
echo(struct rig *r, uint32_t n)
{
	uint32_t got;

	for (uint32_t i = 0; i < n; i++) {
		CHECK_EQ(bsd_send(r->r_so, &i, sizeof(i), 0, NULL, 0), 4);
		CHECK_EQ(bsd_recv(r->r_so, &got, sizeof(got), 0, NULL, 10 * SEC),
		    4);
		CHECK_EQ(got, i);
	}
}

static void
reflect(struct rig *r)
{
	atomic_store(&r->r_stop, false);
	CHECK_EQ(pthread_create(&r->r_thread, NULL, reflector, r), 0);
}

static void
unreflect(struct rig *r)
{
	atomic_store(&r->r_stop, true);
	pthread_join(r->r_thread, NULL);
}

TEST(drives_while_it_waits)
{
	struct rig r;
	char c;

	rig_new(&r);
	reflect(&r);
	echo(&r, 300);
	CHECK(stat(r.r_s, "netisr.drives") > 0);
	/* Nobody waits: the netisr takes its place again. */
	CHECK_EQ(bsd_send(r.r_so, "x", 1, 0, NULL, 0), 1);
	while (stat(r.r_s, "udp.in") != 301) {
		CHECK_EQ(poll(NULL, 0, 1), 0);
	}
	CHECK_EQ(bsd_recv(r.r_so, &c, 1, 0, NULL, 0), 1);
	unreflect(&r);
	rig_free(&r);
}

/* Waits for one byte on r_so. */
static void *
waiter(void *arg)
{
	struct rig *r = arg;
	char c;

	r->r_result = bsd_recv(r->r_so, &c, 1, 0, NULL, 10 * SEC);
	return NULL;
}

/* A thread that waits, most likely in the netisr's place by now. */
static void
start_waiter(struct rig *r)
{
	uint64_t drives;

	reflect(r);
	echo(r, 50);
	unreflect(r);
	drives = stat(r->r_s, "netisr.drives");
	r->r_result = 1;
	CHECK_EQ(pthread_create(&r->r_thread, NULL, waiter, r), 0);
	for (int i = 0; i < 10 && stat(r->r_s, "netisr.drives") == drives; i++) {
		CHECK_EQ(poll(NULL, 0, 1), 0);
	}
}

TEST(gives_up_in_time)
{
	struct rig r;
	char c;

	rig_new(&r);
	reflect(&r);
	for (int i = 0; i < 20; i++) {
		echo(&r, 20);
		CHECK_EQ(bsd_recv(r.r_so, &c, 1, 0, NULL, 1000000), -EAGAIN);
	}
	unreflect(&r);
	rig_free(&r);
}

TEST(others_wake_it)
{
	for (int i = 0; i < 4; i++) {
		struct rig r;

		rig_new(&r);
		start_waiter(&r);
		CHECK_EQ(bsd_shutdown(r.r_so, SHUT_RD), 0);
		pthread_join(r.r_thread, NULL);
		CHECK_EQ(r.r_result, 0);
		rig_free(&r);
	}
}

static void
handler(int sig)
{
	(void)sig;
}

TEST(signal_ends_it)
{
	struct sigaction sa = { .sa_handler = handler };
	struct rig r;

	rig_new(&r);
	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	start_waiter(&r);
	/* It may not sleep yet; a handler that ran before is no end. */
	for (int i = 0; i < 10000; i++) {
		pthread_kill(r.r_thread, SIGUSR1);
		CHECK_EQ(poll(NULL, 0, 1), 0);
		if (pthread_tryjoin_np(r.r_thread, NULL) == 0) {
			break;
		}
	}
	CHECK_EQ(r.r_result, -EINTR);
	rig_free(&r);
}

TEST(interface_goes_away)
{
	for (int i = 0; i < 4; i++) {
		struct rig r;

		rig_new(&r);
		start_waiter(&r);
		CHECK_EQ(bsd_if_detach(r.r_s, r.r_if), 0);
		CHECK_EQ(bsd_shutdown(r.r_so, SHUT_RD), 0);
		pthread_join(r.r_thread, NULL);
		CHECK_EQ(r.r_result, 0);
		rig_free(&r);
	}
}

TEST(netisr_stops_and_starts_under_it)
{
	struct rig r;

	rig_new(&r);
	start_waiter(&r);
	bsd_stop(r.r_s);
	CHECK_EQ(bsd_start(r.r_s), 0);
	CHECK_EQ(bsd_shutdown(r.r_so, SHUT_RD), 0);
	pthread_join(r.r_thread, NULL);
	CHECK_EQ(r.r_result, 0);
	rig_free(&r);
}

TESTS(RUN(drives_while_it_waits), RUN(gives_up_in_time), RUN(others_wake_it),
    RUN(signal_ends_it), RUN(interface_goes_away),
    RUN(netisr_stops_and_starts_under_it))
