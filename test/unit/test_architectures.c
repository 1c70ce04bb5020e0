/*
 * test_architectures.c
 *		Forward and backward of the architectures that are not BERT's, on synthetic models:
 *		gradients by finite differences, and causal models that go on from earlier tokens.
 */
#include "encoder_fixture.h"

/*
 * The architectures that are not BERT's: pre-norm and causal, position biases, scaled scores, other
 * positions, tables narrower or wider than layers, layers that share their weights.
 */
static void
test_architecture_gradients(DistilDevice *device)
{
	static const struct
	{
		const char *name;
		bool		causal;
		bool		layer_scaled;
		int			buckets;
		int			offset;
		int			table_width;
		bool		shared;
	}			cases[] = {
		{"gpt2", true, false, 0, 0, 0, false}, {"gpt2", true, true, 0, 0, 0, false},
		{"mpnet", false, false, 8, 2, 0, false}, {"roberta", false, false, 0, 2, 0, false},
		{"xlm-roberta", false, false, 0, 2, 0, false}, {"camembert", false, false, 0, 2, 0, false},
		{"electra", false, false, 0, 0, 0, false}, {"electra", false, false, 0, 0, 20, false},
		{"albert", false, false, 0, 0, 8, true}
	};
	size_t		i;
	int			part;
	int			dropout;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (part = PART_ENCODER; part <= PART_LM; part++)
			for (dropout = 0; dropout < 2; dropout++)
			{
				Synthetic	model;
				SyntheticBatch batch;
				Problem		problem;
				char		what[80];

				small_config(&model, cases[i].offset > 0 && cases[i].buckets == 0);
				model.spec.config.arch = distil_arch_find(cases[i].name);
				model.spec.config.attention_output_dropout = true;
				model.spec.config.causal = cases[i].causal;
				model.spec.config.layer_scaled_attention = cases[i].layer_scaled;
				model.spec.config.unscaled_attention = cases[i].layer_scaled;
				model.spec.config.relative_buckets = cases[i].buckets;
				model.spec.config.position_offset = cases[i].offset;
				model.spec.config.table_width = cases[i].table_width;
				model.spec.config.shared_layers = model.spec.config.no_mlp_dropout = cases[i].shared;
				synthetic_create(&model, true, 0.4f, 5);
				synthetic_batch(&batch, &model.spec, lengths, LENGTHS, 2);
				problem_create(&problem, &model, &batch, device, (TestPart) part, dropout ? 99 : 0);
				snprintf(what, sizeof(what), "%s %zu, %s, dropout %s", cases[i].name, i,
						 part == PART_LM ? "lm" : "encoder", dropout ? "on" : "off");
				check_gradients(&problem, what);
				problem_free(&problem);
				synthetic_batch_free(&batch);
				synthetic_free(&model);
			}
}

/* A causal model fed token by token, or in parts, gives what it gives for all tokens at once. */
static void
test_cached(DistilDevice *device, const char *name)
{
	static const int length[1] = {9};
	static const int parts[2][9] = {{1, 1, 1, 1, 1, 1, 1, 1, 1}, {5, 1, 3}};
	Synthetic	model;
	SyntheticBatch batch;
	DistilActivations *activations;
	DistilKeyCache cache = {16, 0, NULL, NULL};
	const float *hidden;
	float		all[9 * 12];
	DistilError err;
	int			kind;

	small_config(&model, false);
	model.spec.config.arch = distil_arch_find("gpt2");
	model.spec.config.causal = true;
	synthetic_create(&model, true, 0.4f, 5);
	synthetic_batch(&batch, &model.spec, length, 1, 2);
	CHECK(distil_activations_create(&activations, &model.spec, 9, false, device, distil_alloc_system(),
									&err) == DISTIL_OK);
	CHECK(distil_encoder_forward(&model.spec, model.weights, &batch.batch, activations, 0, &hidden, device,
								 NULL, &err) == DISTIL_OK);
	memcpy(all, hidden, sizeof(all));
	cache.qkv = floats(device, 2 * 16 * 36);
	cache.context = floats(device, 16 * 12);
	for (kind = 0; kind < 2; kind++)
	{
		const int  *part = parts[kind];

		for (cache.past = 0; cache.past < 9; cache.past += *part++)
		{
			DistilBatch one = batch.batch;
			int32_t		offsets[2] = {0, (int32_t) cache.past + *part};
			int			i;

			one.ntokens = *part;
			one.ids += cache.past;
			one.positions += cache.past;
			one.offsets = one.host_offsets = offsets;
			CHECK(distil_encoder_forward_cached(&model.spec, model.weights, &one, activations, &cache,
												&hidden,
												device, NULL, &err) == DISTIL_OK);
			/* float32 sums of a dozen values of size 1 in another order */
			for (i = 0; i < *part * 12; i++)
				CHECK_MSG(fabsf(hidden[i] - all[cache.past * 12 + i]) <= 2e-5f, "%s: token %d: %g, %g", name,
						  cache.past + i / 12, hidden[i], all[cache.past * 12 + i]);
		}
	}
	device->ops->release(device, cache.qkv);
	device->ops->release(device, cache.context);
	distil_activations_free(activations);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

int
main(void)
{
	static const char *const isas[] = {"avx2", "avx512"};
	DistilDevice *reference = open_device("reference", NULL);
	int			i;

	if (reference == NULL)
		return check_report("architectures");
	test_architecture_gradients(reference);
	test_cached(reference, "reference");
	for (i = 0; i < 2; i++)
		if (distil_cpu_has(isas[i]))
		{
			DistilDevice *device = open_device("cpu", isas[i]);

			if (device != NULL)
			{
				test_cached(device, isas[i]);
				device->ops->close(device);
			}
		}
	reference->ops->close(reference);
	return check_report("architectures");
}
