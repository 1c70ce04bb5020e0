/*
 * int8_functions.h
 *		Template: the exported product of a file that has defined int8_multiply().
 */

#define FINISH_FUNCTION(activation, row_type, name) \
	static __attribute__((noinline)) void \
	int8_multiply_##name(const Int8Linear *l) \
	{ \
		int8_multiply(l, activation, row_type); \
	}
EACH_INT8_FINISH(FINISH_FUNCTION)
#undef FINISH_FUNCTION

/* What stands behind the last column of bfloat16 rows. */
static void
int8_fill(const Int8Linear *l)
{
	size_t		n = l->w->n;
	size_t		end = distil_row_length(DISTIL_TYPE_BF16, n);
	int			i;

	for (i = 0; i < l->m && l->y->type == DISTIL_TYPE_BF16 && n < end; i++)
		memset((uint16_t *) l->y->data + (size_t) i * l->y->ld + n, 0, (end - n) * sizeof(uint16_t));
}

void
INT8_LINEAR(DistilDevice *dev, const DistilRows *y, const DistilRows *x, const DistilWeight *w,
			DistilActivation act, int m)
{
	int			first,
				i;

	for (first = 0; first < m; first += INT8_ROWS)
	{
		DistilRows	from = {x->type, (uint8_t *) x->data + first * x->ld, x->ld, x->scale + first,
		x->zero + first, NULL};
		DistilRows	to = {.type = y->type,
		.data = (char *) y->data + first * y->ld * distil_type_size(y->type),.ld = y->ld};
		Int8Linear	l = {.y = &to,.x = &from,.w = w,.act = act,.scratch = ((CpuDevice *) dev)->scratch,
		.m = m - first < INT8_ROWS ? m - first : INT8_ROWS};

		for (i = 0; i < l.m; i++)
		{
			l.factors[i][0] = from.scale[i];
			l.factors[i][1] = -from.scale[i] * (float) from.zero[i];
		}
		if (act == DISTIL_ACT_NONE && y->type == DISTIL_TYPE_F32)
			int8_multiply_none_f32(&l);
		else if (act == DISTIL_ACT_NONE)
			int8_multiply_none_bf16(&l);
		else
			int8_multiply_any(&l);
		int8_fill(&l);
	}
}
