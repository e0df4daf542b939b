/*
 * The workload of bench/launch: it writes the time of its first instruction,
 * in nanoseconds of CLOCK_MONOTONIC, and a newline, to its standard output.
 * Then it exits; or, with "hold", waits until its standard input ends; or,
 * with "stay", for ever. No C library, so that it costs next to nothing.
 *
 *   gcc -static -nostdlib -ffreestanding -O2 -o first first.c
 */

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, PAUSE = 34, EXIT_GROUP = 231, CLOCK_GETTIME = 228 };

static long call(long n, long a, long b, long c)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");

static void pause_once(void) { call(PAUSE, 0, 0, 0); }

#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, PPOLL = 73, EXIT_GROUP = 94, CLOCK_GETTIME = 113 };

static long call5(long n, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}

static long call(long n, long a, long b, long c) { return call5(n, a, b, c, 0, 0); }

__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl begin\n");

static void pause_once(void) { call5(PPOLL, 0, 0, 0, 0, 0); }
#else
#error "no system calls are written down for this processor"
#endif

void begin(long *stack)
{
	struct { long sec, nsec; } now;
	char text[24], mode, *at = text + sizeof text;
	unsigned long ns;

	call(CLOCK_GETTIME, 1, (long)&now, 0);
	mode = stack[0] > 1 ? *(char *)stack[2] : 0;
	ns = (unsigned long)now.sec * 1000000000 + now.nsec;
	*--at = '\n';
	do
		*--at = '0' + ns % 10;
	while (ns /= 10);
	if (call(WRITE, 1, (long)at, text + sizeof text - at) < 0)
		call(EXIT_GROUP, 3, 0, 0);
	while (mode == 's')
		pause_once();
	if (mode == 'h')
		while (call(READ, 0, (long)text, sizeof text) > 0)
			;
	call(EXIT_GROUP, 0, 0, 0);
}
