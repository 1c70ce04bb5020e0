/*
 * linear_cpu.h
 *		Template: the linear layer over plain weights, forward and backward.
 *
 * A general multiplication copies the weights into panels, which costs more than multiplying
 * them when there are few rows.  Then the roles change: y^T = w x^T in register tiles,
 * reading w where it lies.  For one row there is nothing to reuse but x: a square of w is transposed in
 * registers, while the next square's rows are requested (they are too short for the CPU to see them coming),
 * so that memory is the limit.  All ways give the same bits: one chain over k for each value.
 *
 * Sets without their own multiplication (four lanes) use OpenBLAS.
 */

#define SMALL_ROWS		32						/* up to this many rows w is not packed */
#define SMALL_COLUMNS	192						/* results transposed back at a time */

/* Few rows: y = x w^T without packing w; x transposed fits an area of scratch. */
static void
linear_small(CpuDevice *cpu, float *y, size_t ldy, const float *x, size_t ldx,
			 const float *w, int m, int n, int k)
{
	size_t		columns = ((size_t) m + 15) / 16 * 16;
	float	   *xt = cpu->area[0];
	float	   *yt = cpu->area[1];
	Tile		t = {w, k, 1, xt, columns, yt, columns, k, 1.0f, false, true};
	int			start,
				i,
				j;

	transpose(xt, columns, x, ldx, m, k);
	for (start = 0; start < n; start += SMALL_COLUMNS)
	{
		int			count = n - start < SMALL_COLUMNS ? n - start : SMALL_COLUMNS;

		t.a = w + (size_t) start * k;
		tile_multiply(&t, count, (int) columns);
		for (i = 0; i < m; i++)
		{
			for (j = 0; j < count; j++)
				y[i * ldy + start + j] = yt[j * columns + i];
		}
	}
}

#if CPU_LANES >= 8
/* One row: y [n] = w [n, k] x [k]. */
static void
linear_single(float *y, const float *x, const float *w, int n, int k)
{
	int			whole = k / CPU_LANES * CPU_LANES;
	int			i,
				j,
				p;

	for (j = 0; j + CPU_LANES <= n; j += CPU_LANES)
	{
		const float *rows = w + (size_t) j * k;
		vf			sum = {0};

		for (p = 0; p < whole; p += CPU_LANES)
		{
			vf			r[CPU_LANES];

			for (i = 0; i < CPU_LANES; i++)
			{
				const float *at = rows + (size_t) i * k + p;

				/* an address only, it may lie behind the weights */
				__builtin_prefetch((const void *) ((uintptr_t) at + sizeof(float) * CPU_LANES * (size_t) k));
				r[i] = v_load(at);
			}
			transpose_square(r);
			for (i = 0; i < CPU_LANES; i++)
				sum = v_fma(r[i], v_set(x[p + i]), sum);
		}
		for (; p < k; p++)
		{
			vf			column = {0};

			for (i = 0; i < CPU_LANES; i++)
				column[i] = rows[(size_t) i * k + p];
			sum = v_fma(column, v_set(x[p]), sum);
		}
		v_store(y + j, sum);
	}
	for (; j < n; j++)
	{
		float		sum = 0.0f;

		/* as the vectors: never a product first */
		for (p = 0; p < k; p++)
			sum = __builtin_fmaf(w[(size_t) j * k + p], x[p], sum);
		y[j] = sum;
	}
}

#undef TRADE
#undef PLUS
#endif							/* CPU_LANES >= 8 */

static void
linear_forward(DistilDevice *dev, float *y, size_t ldy, const float *x, size_t ldx,
			   const float *w, const float *b, DistilActivation act, int m, int n, int k)
{
	CpuDevice  *cpu = (CpuDevice *) dev;

#if CPU_LANES >= 8
	if (m == 1)
	{
		linear_single(y, x, w, n, k);
		finish_rows(y, ldy, b, act, m, n);
		return;
	}
#endif
	if (m <= SMALL_ROWS && (size_t) SMALL_ROWS * k <= CPU_AREA_FLOATS)
	{
		linear_small(cpu, y, ldy, x, ldx, w, m, n, k);
		finish_rows(y, ldy, b, act, m, n);
	}
	else
		gemm(cpu, &(Gemm) {.a = x,.lda = ldx,.b = w,.ldb = k,.tb = true,.c = y,.ldc = ldy,
			 .m = m,.n = n,.k = k,.chain = true,.bias = b,.act = act});
}

static void
linear_backward_input(DistilDevice *dev, float *dx, size_t lddx, const float *dy, size_t lddy,
					  const float *w, bool accumulate, int m, int n, int k)
{
	gemm((CpuDevice *) dev, &(Gemm) {.a = dy,.lda = lddy,.b = w,.ldb = k,.c = dx,.ldc = lddx,
		 .m = m,.n = k,.k = n,.accumulate = accumulate});
}

static void
linear_backward_weight(DistilDevice *dev, float *dw, float *db, const float *dy, size_t lddy,
					   const float *x, size_t ldx, int m, int n, int k)
{
	int			i;

	gemm((CpuDevice *) dev, &(Gemm) {.a = dy,.lda = lddy,.ta = true,.b = x,.ldb = ldx,.c = dw,.ldc = k,
		 .m = n,.n = k,.k = m,.accumulate = true});
	for (i = 0; i < m && db != NULL; i++)
		add_scaled(db, dy + i * lddy, 1.0f, n);
}
