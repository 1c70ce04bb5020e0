/*
 * gelu_avx512.h
 *		GELU in float32 from a table of polynomials in registers, for act_cpu.h.
 *
 * Phi(-a) of the normal distribution in 16 intervals of width 3/8: of each the minimax
 * polynomial of degree 4 in a * 8/3 minus the interval's number.  a Phi(-a), all that GELU takes
 * from it, is within 2e-7 everywhere; behind the last interval it is taken as at its end, 6e-9.
 */
static const float gelu_table[5][16] __attribute__((aligned(64))) = {
	{0.499999869f, 0.353830184f, 0.226627399f, 0.130294605f, 0.0668072704f, 0.0303963874f,
		0.0122244662f, 0.0043324318f, 0.0013498845f, 0.000369070998f, 8.84141434e-5f, 1.85356761e-5f,
		3.39737839e-6f, 5.43974117e-7f, 7.60363548e-8f, 9.27321977e-9f},
	{-0.14959673f, -0.139443021f, -0.112928705f, -0.0794581318f, -0.0485726135f, -0.025796205f,
		-0.01190209f, -0.00477074408f, -0.00166125705f, -0.000502537496f, -0.000132061054f,
		-3.01474139e-5f, -5.97846173e-6f, -1.02988521e-6f, -1.54114938e-7f, -2.00333858e-8f},
	{-5.36005469e-5f, 0.00978217615f, 0.0158964076f, 0.0167946881f, 0.0136887254f, 0.00907994625f,
		0.00501942575f, 0.00234195656f, 0.000929270287f, 0.000315112214f, 9.1622205e-5f,
		2.28974849e-5f, 4.92716683e-6f, 9.14152612e-7f, 1.4639077e-7f, 2.0251177e-8f},
	{0.00365857038f, 0.00287782307f, 0.00111775278f, -0.000591436162f, -0.00150528197f,
		-0.00155545754f, -0.00112940864f, -0.000640635996f, -0.000295686456f, -0.000113337229f,
		-3.65077149e-5f, -9.95765304e-6f, -2.31172717e-6f, -4.58498252e-7f, -7.7904715e-8f,
		-1.13641165e-8f},
	{-0.000177743916f, -0.000419760345f, -0.00041838307f, -0.000232612403f, -2.18075815e-5f,
		9.97757952e-5f, 0.000120061411f, 8.69063186e-5f, 4.68807115e-5f, 2.01162553e-5f,
		7.07229958e-6f, 2.07064079e-6f, 5.09980694e-7f, 1.06374493e-7f, 1.8881177e-8f, 2.86187221e-9f}
};

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|); a NaN stays one. */
static inline vf
act_gelu(vf x)
{
	const __m512 whole = _mm512_set1_ps(8388608.0f);	/* rounds to an integer, in its low bits */
	const __m512 width = _mm512_set1_ps(8.0f / 3.0f);
	__m512		a = _mm512_min_ps(_mm512_set1_ps(5.99999f), _mm512_abs_ps((__m512) x));
	__m512		n = _mm512_fmadd_round_ps(a, width, whole, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
	__m512		t = _mm512_fmsub_ps(a, width, _mm512_sub_ps(n, whole));
	__m512i		i = _mm512_castps_si512(n);
	__m512		p = _mm512_permutexvar_ps(i, _mm512_load_ps(gelu_table[4]));
	int			j;

	for (j = 3; j >= 0; j--)
		p = _mm512_fmadd_ps(p, t, _mm512_permutexvar_ps(i, _mm512_load_ps(gelu_table[j])));
	return (vf) _mm512_fnmadd_ps(a, p, _mm512_max_ps((__m512) x, _mm512_setzero_ps()));
}

