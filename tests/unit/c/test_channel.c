/*
 * Kernel pipes and monitors: a channel whose other end is called, and one that
 * sees what another carries.
 */
#include "skywalk/channel/channel_var.h"

#include <errno.h>

#include "tests/unit/c/check.h"

static const struct sk_params params = { .slots = 8,
	.packets = 8,
	.buffer = 64,
	.buflets = 6,
	.max_frags = 4 };

static void
whole(struct channel *ch)
{
	struct sk_stats st;

	CHECK_EQ(sk_channel_sync(ch, SK_TX), 0);
	sk_channel_stats(ch, &st);
	CHECK_EQ(st.free, ch->ch_params.packets);
	CHECK_EQ(st.lent, 0);
}

TEST(loopback_provider)
{
	unsigned char data[250], got[256];
	struct sk_meta meta = { .flowid = 3 };
	struct channel *ch;
	struct kpipe *kp;
	uint32_t len[4];
	int sent = 0, came = 0;

	CHECK_EQ(sk_kpipe_open(&params, sk_loopback_provider(), NULL, &ch, &kp),
	    0);
	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (unsigned char)i;
	}
	for (int turn = 0; turn < 400; turn++) {
		int n;

		if (turn % 5 < 3) {
			n = sk_send(ch, data, 250, &meta);
			CHECK(n >= 0);
			sent += n;
		}
		n = sk_receive_copy(ch, got, sizeof(got), len, 4);
		CHECK(n >= 0);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(len[i], 250);
		}
		if (n > 0) {
			CHECK_MEM(got, data, 250);
		}
		came += n;
	}
	CHECK_EQ(came, sent);
	CHECK(sent > 100);
	whole(ch);
	whole(sk_kpipe_end(kp));
	sk_kpipe_close(kp);
	CHECK_EQ(sk_send(ch, data, 1, NULL), -ENXIO);
	sk_channel_free(ch);
}

struct calls {
	char order[16];
	int refuse;
};

static void
note(void *arg, char what)
{
	struct calls *c = arg;
	size_t n = strlen(c->order);

	if (n + 1 < sizeof(c->order) && (n == 0 || c->order[n - 1] != what)) {
		c->order[n] = what;
	}
}

static int
pre_connect(void *arg, struct channel *end)
{
	(void)end;
	note(arg, 'p');
	return ((struct calls *)arg)->refuse;
}

static void
connected(void *arg, struct channel *end)
{
	CHECK_EQ(sk_channel_reason(end), SK_ACTIVE);
	note(arg, 'c');
}

static int
sync_tx(void *arg, struct channel *end)
{
	struct sk_batch b;
	int n = sk_receive(end, &b, 64);

	note(arg, 't');
	if (n > 0) {
		sk_release(end, b.idx, (uint32_t)n);
	}
	return 0;
}

static int
sync_rx(void *arg, struct channel *end)
{
	(void)end;
	note(arg, 'r');
	return 0;
}

static void
pre_disconnect(void *arg, struct channel *end)
{
	CHECK_EQ(sk_channel_reason(end), SK_ACTIVE);
	note(arg, 'q');
}

static void
disconnected(void *arg, struct channel *end)
{
	CHECK_EQ(sk_channel_reason(end), SK_CLOSED);
	note(arg, 'd');
}

static const struct sk_provider_ops ops = {
	.nxpi_pre_connect = pre_connect,
	.nxpi_connected = connected,
	.nxpi_sync_tx = sync_tx,
	.nxpi_sync_rx = sync_rx,
	.nxpi_pre_disconnect = pre_disconnect,
	.nxpi_disconnected = disconnected,
};

TEST(provider_callbacks_in_order)
{
	struct calls calls = { .refuse = -EPERM };
	struct channel *ch;
	struct kpipe *kp;

	CHECK_EQ(sk_kpipe_open(&params, &ops, &calls, &ch, &kp), -EPERM);
	CHECK_STR(calls.order, "p");
	calls = (struct calls){ 0 };
	CHECK_EQ(sk_kpipe_open(&params, &ops, &calls, &ch, &kp), 0);
	CHECK_EQ(sk_send(ch, (const unsigned char *)"x", 1, NULL), 1);
	CHECK_EQ(sk_kpipe_run(kp), 0);
	sk_kpipe_close(kp);
	CHECK_STR(calls.order, "pctrtrqd");
	sk_channel_free(ch);
}

TEST(run_for_a_user_who_is_elsewhere)
{
	struct channel *ch[2];
	struct kpipe *kp;
	struct sk_batch b;

	CHECK_EQ(sk_pipe_open(&params, ch), 0);
	CHECK_EQ(sk_kpipe_attach(ch[0], sk_loopback_provider(), NULL, &kp), 0);
	for (int i = 0; i < 30; i++) {
		CHECK_EQ(sk_send(ch[1], (const unsigned char *)"x", 1, NULL), 1);
		CHECK_EQ(sk_receive(ch[1], &b, 1), 0);
		CHECK_EQ(sk_kpipe_run(kp), 0);
		CHECK_EQ(sk_receive(ch[1], &b, 1), 1);
		sk_release(ch[1], b.idx, 1);
	}
	sk_channel_free(ch[1]);
	CHECK_EQ(sk_kpipe_run(kp), -ENXIO);
	sk_kpipe_close(kp);
}

TEST(monitor)
{
	struct channel *ch[2], *mon[2];
	unsigned char data[200] = { 9 };
	struct sk_batch b;
	struct sk_stats st;

	CHECK_EQ(sk_pipe_open(&params, ch), 0);
	CHECK_EQ(sk_pipe_open(&params, mon), 0);
	CHECK_EQ(sk_monitor(ch[0], ch[0], SK_TX), -EINVAL);
	CHECK_EQ(sk_monitor(ch[0], mon[0], SK_TX | SK_RX), 0);
	CHECK_EQ(sk_monitor(ch[0], mon[1], SK_TX), -EBUSY);
	CHECK_EQ(sk_send(ch[0], data, 200, NULL), 1);
	CHECK_EQ(sk_send(ch[1], data, 3, NULL), 1);
	CHECK_EQ(sk_receive(ch[0], &b, 1), 1);
	CHECK_EQ(sk_receive(mon[1], &b, 64), 2);
	CHECK_EQ(b.len[0], 200);
	CHECK_EQ(b.meta[0].spare, SK_TX);
	CHECK_EQ(b.len[1], 3);
	CHECK_EQ(b.meta[1].spare, SK_RX);
	/* It does not keep up: the watched channel goes on. */
	for (int i = 0; i < 40; i++) {
		CHECK_EQ(sk_send(ch[1], data, 1, NULL), 1);
		CHECK_EQ(sk_receive(ch[0], &b, 1), 1);
		sk_release(ch[0], b.idx, 1);
	}
	sk_channel_stats(mon[0], &st);
	CHECK_EQ(st.mondropped, 34);
	sk_channel_free(mon[1]);
	CHECK_EQ(sk_send(ch[0], data, 3, NULL), 1);
	sk_channel_free(ch[0]);
	sk_channel_free(ch[1]);
	sk_channel_free(mon[0]);
}

TEST(parameters)
{
	struct sk_params p = { 0 };
	int fd[2];

	CHECK_EQ(sk_params_check(&p), 0);
	CHECK_EQ(p.slots, 256);
	CHECK_EQ(p.packets, 512);
	CHECK_EQ(p.buffer, 2048);
	p.slots = 100;
	CHECK_EQ(sk_params_check(&p), -EINVAL);
	CHECK_EQ(sk_arena_create(&p, fd), -EINVAL);
	p = (struct sk_params){ .slots = 32768 };
	CHECK_EQ(sk_params_check(&p), -EINVAL);
	p = (struct sk_params){ .max_frags = 65 };
	CHECK_EQ(sk_params_check(&p), -EINVAL);
	p = (struct sk_params){ .buffer = 100 };
	CHECK_EQ(sk_params_check(&p), -EINVAL);
}

TESTS(RUN(loopback_provider), RUN(provider_callbacks_in_order),
    RUN(run_for_a_user_who_is_elsewhere), RUN(monitor), RUN(parameters))
