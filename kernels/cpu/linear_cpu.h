/*
 * linear_cpu.h
 *		Template: the linear layer; multiplication by OpenBLAS, epilogue by vectors.
 *
 * Rows are cut so that a block's results still lie in the second-level cache when
 * bias and activation pass over them; the cut never makes a block so small that
 * packing the weights again costs more than that saves.
 *
 * A general GEMM packs the weights, which costs more than multiplying them when there are
 * few rows.  Then the roles change: y^T = w x^T in register tiles, reading w where it lies.
 */

#define EPILOGUE_FLOATS ((size_t) 256 * 1024)	/* 1 MB of results per block */
#define EPILOGUE_ROWS	128						/* at least */
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
	int			block = n > 0 ? (int) (EPILOGUE_FLOATS / n) : m;
	bool		small;
	int			start,
				i;

	if (block < EPILOGUE_ROWS)
		block = EPILOGUE_ROWS;
	if (b == NULL && act == DISTIL_ACT_NONE)
		block = m;
	small = m <= SMALL_ROWS && (size_t) SMALL_ROWS * k <= CPU_AREA_FLOATS;
	for (start = 0; start < m; start += block)
	{
		int			rows = m - start < block ? m - start : block;
		float	   *out = y + start * ldy;

		if (small)
			linear_small((CpuDevice *) dev, out, ldy, x, ldx, w, m, n, k);
		else
			distil_blas_gemm(false, true, rows, n, k, 1.0f, x + start * ldx, ldx, w, k, 0.0f, out, ldy);
		for (i = 0; i < rows && b != NULL; i++)
			activate_biased(act, out + i * ldy, b, n);
		for (i = 0; i < rows && b == NULL && act != DISTIL_ACT_NONE; i++)
			activation_forward(dev, act, out + i * ldy, out + i * ldy, n);
	}
}

static void
linear_backward_input(DistilDevice *dev, float *dx, size_t lddx, const float *dy, size_t lddy,
					  const float *w, bool accumulate, int m, int n, int k)
{
	(void) dev;
	distil_blas_gemm(false, false, m, k, n, 1.0f, dy, lddy, w, k, accumulate ? 1.0f : 0.0f, dx, lddx);
}

static void
linear_backward_weight(DistilDevice *dev, float *dw, float *db, const float *dy, size_t lddy,
					   const float *x, size_t ldx, int m, int n, int k)
{
	int			i;

	(void) dev;
	distil_blas_gemm(true, false, n, k, m, 1.0f, dy, lddy, x, ldx, 1.0f, dw, k);
	for (i = 0; i < m && db != NULL; i++)
		add_scaled(db, dy + i * lddy, 1.0f, n);
}
