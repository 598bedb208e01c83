/* Lines for frames, whole, cut short at every byte, and mangled. */
#include "bsdcore/api.h"
#include "tests/unit/c/check.h"

/* 10.0.0.1.4660 > 10.0.0.2.80: SYN with mss, sackOK, TS, nop, wscale */
static const unsigned char syn[] = { 0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1,
	0x08, 0x00, 0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10,
	0, 0, 2, 0x12, 0x34, 0, 80, 0, 0, 0x10, 0, 0, 0, 0, 0, 0xa0, 0x02, 0xff,
	0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1,
	3, 3, 7 };
static const unsigned char arp[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0,
	0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1,
	0, 0, 0, 0, 0, 0, 10, 0, 0, 2 };
static const unsigned char dns[] = { 0x45, 0, 0, 57, 0, 0, 0, 0, 64, 17, 0, 0,
	10, 0, 0, 1, 10, 0, 0, 3, 0xc0, 0, 0, 53, 0, 37, 0, 0, 0, 7, 1, 0, 0, 1,
	0, 0, 0, 0, 0, 0, 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 3, 'c', 'o',
	'm', 0, 0, 1, 0, 1 };

static void
expect(const void *frame, size_t len, int link, const char *text)
{
	char buf[256];

	CHECK_EQ(bsd_describe(frame, len, link, buf, sizeof(buf)), strlen(text));
	CHECK_STR(buf, text);
}

TEST(lines)
{
	expect(syn, sizeof(syn), 0,
	    "IP 10.0.0.1.4660 > 10.0.0.2.80: Flags [S], seq 4096, win 65535, "
	    "options [mss 1460,sackOK,TS val 9 ecr 0,nop,wscale 7], length 0");
	expect(arp, sizeof(arp), 0,
	    "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28");
	expect(dns, sizeof(dns), 1,
	    "IP 10.0.0.1.49152 > 10.0.0.3.53: DNS 7 query example.com. type 1, "
	    "length 29");
	expect(syn, 10, 0, "truncated-ether");
	expect(syn, 20, 0, "IP truncated-ip");
}

/* Copies that end where the allocation ends, so a sanitizer sees a step too far. */
static void
try_all(const unsigned char *frame, size_t len, int link)
{
	char text[64];

	for (size_t n = 0; n <= len; n++) {
		unsigned char *copy = malloc(n + 1);

		memcpy(copy + 1, frame, n);
		for (size_t i = 0; i <= n; i++) {
			for (int bit = 0; bit < (i == 0 ? 1 : 8); bit++) {
				int got;

				copy[i] ^= (unsigned char)(1 << bit);
				got = bsd_describe(copy + 1, n, link, text,
				    sizeof(text));
				CHECK(got >= 0 && got < (int)sizeof(text));
				CHECK_EQ(strlen(text), got);
				copy[i] ^= (unsigned char)(1 << bit);
			}
		}
		free(copy);
	}
}

TEST(anything_is_a_line)
{
	char one;

	try_all(syn, sizeof(syn), 0);
	try_all(arp, sizeof(arp), 0);
	try_all(dns, sizeof(dns), 1);
	CHECK_EQ(bsd_describe(syn, sizeof(syn), 0, &one, 1), 0);
	CHECK(bsd_describe(syn, sizeof(syn), 0, &one, 0) < 0);
}

TESTS(RUN(lines), RUN(anything_is_a_line))
