/*
 * tile_amx.h
 *		The tile registers, as the AMX kernels see them; or a stand-in in plain C.
 *
 * Eight registers of 16 rows of 64 bytes.  With AMX_PLAIN they are memory and the same kernels run on CPUs
 * without AMX, for tests.  The rule a newcomer would break: the compiler does not know what a
 * TILE_LOAD reads, so what was written in the same function needs a TILE_FENCE between; and tiles
 * are given back (tile_end) before a kernel returns, or every switch of process saves 8 kB.
 * Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, 18.
 */

#define TILE_ROWS 16
#define TILE_BYTES 1024

/* Orders the memory accesses around it. */
#define TILE_FENCE() __asm__ volatile ("" ::: "memory")

#ifndef AMX_PLAIN

typedef struct TileShape
{
	uint8_t		palette;
	uint8_t		start;
	uint8_t		reserved[14];
	uint16_t	row_bytes[16];
	uint8_t		rows[16];
} TileShape;

static inline void
tile_begin(void)
{
	static const TileShape shape = {
		.palette = 1,
		.row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
		.rows = {TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS}
	};

	__asm__ volatile ("ldtilecfg %0" :: "m" (shape));
}

static inline void
tile_end(void)
{
	__asm__ volatile ("tilerelease" ::);
}

#define TILE_ZERO(t) __asm__ volatile ("tilezero %%tmm" #t ::)
/* stride in bytes */
#define TILE_LOAD(t, from, stride) \
	__asm__ volatile ("tileloadd (%0,%1,1), %%tmm" #t :: "r" (from), "r" ((long) (stride)))
/* of what is not read again soon: it leaves the first cache to the rest */
#define TILE_LOAD_ONCE(t, from, stride) \
	__asm__ volatile ("tileloaddt1 (%0,%1,1), %%tmm" #t :: "r" (from), "r" ((long) (stride)))
#define TILE_STORE(t, to, stride) \
	__asm__ volatile ("tilestored %%tmm" #t ", (%0,%1,1)" :: "r" (to), "r" ((long) (stride)) : "memory")
/* c += a b: pairs of BF16, into floats */
#define TILE_DOT_BF16(c, a, b) __asm__ volatile ("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
/* c += a b: four unsigned bytes by four signed ones, into int32 */
#define TILE_DOT_INT8(c, a, b) __asm__ volatile ("tdpbusd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)

#else

typedef union PlainTile
{
	uint8_t		byte[TILE_ROWS][64];
	uint16_t	pair[TILE_ROWS][32];
	float		real[TILE_ROWS][16];
	int32_t		whole[TILE_ROWS][16];
} PlainTile;

static _Thread_local PlainTile plain_tile[8];

static inline void
tile_begin(void)
{
	memset(plain_tile, 0xff, sizeof(plain_tile));	/* NaNs: a tile that is not set shows */
}

static inline void
tile_end(void)
{
}

static inline void
plain_load(PlainTile *t, const void *from, size_t stride)
{
	int			r;

	for (r = 0; r < TILE_ROWS; r++)
		memcpy(t->byte[r], (const char *) from + r * stride, 64);
}

/* Out of line: sanitizers make gcc see stores behind the last row of an array of rows. */
static __attribute__((noinline)) void
plain_store(const PlainTile *t, void *to, size_t stride)
{
	int			r;

	for (r = 0; r < TILE_ROWS; r++)
		memcpy((char *) to + r * stride, t->byte[r], 64);
}

static inline void
plain_dot_bf16(PlainTile *c, const PlainTile *a, const PlainTile *b)
{
	int			r,
				k,
				n;

	for (r = 0; r < TILE_ROWS; r++)
	{
		for (k = 0; k < 32; k++)
		{
			float		x = distil_bf16_float(a->pair[r][k]);

			for (n = 0; n < 16; n++)
				c->real[r][n] += x * distil_bf16_float(b->pair[k / 2][2 * n + k % 2]);
		}
	}
}

static inline void
plain_dot_int8(PlainTile *c, const PlainTile *a, const PlainTile *b)
{
	int			r,
				k,
				n;

	for (r = 0; r < TILE_ROWS; r++)
	{
		for (k = 0; k < 64; k++)
		{
			for (n = 0; n < 16; n++)
				c->whole[r][n] += a->byte[r][k] * (int8_t) b->byte[k / 4][4 * n + k % 4];
		}
	}
}

#define TILE_ZERO(t) memset(&plain_tile[t], 0, sizeof(PlainTile))
#define TILE_LOAD(t, from, stride) plain_load(&plain_tile[t], from, stride)
#define TILE_LOAD_ONCE TILE_LOAD
#define TILE_STORE(t, to, stride) plain_store(&plain_tile[t], to, stride)
#define TILE_DOT_BF16(c, a, b) plain_dot_bf16(&plain_tile[c], &plain_tile[a], &plain_tile[b])
#define TILE_DOT_INT8(c, a, b) plain_dot_int8(&plain_tile[c], &plain_tile[a], &plain_tile[b])

#endif
