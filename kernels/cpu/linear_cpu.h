/*
 * linear_cpu.h
 *		Template: the linear layer over plain weights, forward and backward.
 *
 * A general multiplication copies the weights into panels, which costs more than multiplying
 * them when there are few rows.  Then the roles change: y^T = w x^T in register tiles,
 * reading w where it lies.  Both ways give the same bits.
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

static void
linear_forward(DistilDevice *dev, float *y, size_t ldy, const float *x, size_t ldx,
			   const float *w, const float *b, DistilActivation act, int m, int n, int k)
{
	CpuDevice  *cpu = (CpuDevice *) dev;

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
