/*
 * gelu_cpu.h
 *		Template: GELU in float32 from a table of polynomials in registers.
 *
 * Phi(-a) of the normal distribution in as many intervals up to a = 6 as a vector has lanes: of
 * each the minimax polynomial in a's place in it, 0 to 1.  a Phi(-a), all that GELU takes from it, is within
 * 2e-7 everywhere; behind the last interval it is taken as at its end, 6e-9.
 */
#if CPU_LANES == 16

#define GELU_DEGREE 4

static const float gelu_table[GELU_DEGREE + 1][16] __attribute__((aligned(64))) = {
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

/* Coefficient j of each lane's interval. */
static inline vf
gelu_pick(vi interval, int j)
{
	return (vf) _mm512_permutexvar_ps((__m512i) interval, _mm512_load_ps(gelu_table[j]));
}

#else

#define GELU_DEGREE 6

static const float gelu_table[GELU_DEGREE + 1][8] __attribute__((aligned(32))) = {
	{0.500000011f, 0.226627339f, 0.0668072005f, 0.0122244763f, 0.00134989792f, 8.84169379e-5f,
		3.39761729e-6f, 7.60461893e-8f},
	{-0.299207794f, -0.225851786f, -0.0971381074f, -0.023805103f, -0.00332388081f,
		-0.000264412039f, -1.19820923e-5f, -3.09279997e-7f},
	{1.81126757e-5f, 0.0635007434f, 0.0546384398f, 0.020091176f, 0.00373935274f, 0.00037131104f,
		2.0133709e-5f, 6.03536873e-7f},
	{0.0279364338f, 0.00938464735f, -0.0113696149f, -0.00910251576f, -0.00249326356f,
		-0.000320357605f, -2.10274961e-5f, -7.31828002e-7f},
	{0.000346661538f, -0.00759695209f, -0.00197293937f, 0.00204787045f, 0.00105456492f,
		0.000182565459f, 1.44904589e-5f, 5.77466314e-7f},
	{-0.00291806576f, 0.000512071863f, 0.00149985552f, -5.06371509e-5f, -0.000271795435f,
		-6.54010577e-5f, -6.1474931e-6f, -2.73293561e-7f},
	{0.00045198263f, 0.000231151065f, -0.000240360906f, -5.53724015e-5f, 3.35416393e-5f,
		1.12752858e-5f, 1.21140176e-6f, 5.83421869e-8f}
};

static inline vf
gelu_pick(vi interval, int j)
{
	return (vf) _mm256_permutevar8x32_ps(_mm256_load_ps(gelu_table[j]), (__m256i) interval);
}

#endif

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|); a NaN stays one. */
static inline vf
act_gelu(vf x)
{
	vf			a = v_smaller(v_set(5.99999f), v_abs(x));
	vf			place = a * (CPU_LANES / 6.0f);
	vi			interval = __builtin_convertvector(place, vi);
	vf			t = place - __builtin_convertvector(interval, vf);
	vf			p = gelu_pick(interval, GELU_DEGREE);
	int			j;

	for (j = GELU_DEGREE - 1; j >= 0; j--)
		p = p * t + gelu_pick(interval, j);
	return v_larger(x, v_set(0.0f)) - a * p;
}
