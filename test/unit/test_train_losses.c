/*
 * test_train_losses.c
 *		Losses and gradients of both methods against PyTorch (test/golden/make_losses.py),
 *		and by finite differences; the initial student against its teacher.
 */
#include "check.h"
#include "safetensors.h"
#include "train.h"
#include "train_fixture.h"

#define GOLDEN "test/golden/losses.goldens.safetensors"

static DistilTensorSet *goldens;

static void
open_goldens(DistilFolder **folder)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilError err = {{0}, {0}, {0}};
	const DistilFile *file;

	MUST(distil_folder_open_disk(folder, "test/golden", alloc, &err));
	file = distil_folder_find(*folder, "losses.goldens.safetensors");
	MUST(file == NULL ? distil_fail(&err, DISTIL_ERR_NO_FILE, GOLDEN) : DISTIL_OK);
	MUST(distil_tensor_set_create(&goldens, alloc, &err));
	MUST(distil_tensor_set_add(goldens, &file->reader, GOLDEN, "", &err));
	MUST(distil_tensor_set_finish(goldens, &err));
}

/* Allocated copy of a golden tensor, NULL when there is none. */
static void *
golden(const char *name, size_t *count)
{
	const DistilTensor *tensor = distil_tensor_set_find(goldens, name);
	DistilError err = {{0}, {0}, {0}};
	void	   *data;

	if (tensor == NULL)
		return NULL;
	data = malloc(tensor->bytes + 1);
	MUST(distil_tensor_read(tensor, 0, data, tensor->bytes, &err));
	if (count != NULL)
		*count = tensor->count;
	return data;
}

/* The golden batch as a round of one micro-batch; then its losses and gradients. */
static void
run_batch(DistilTrainer *trainer, const char *kind, bool learn)
{
	char		name[64];
	size_t		n;
	size_t		t;
	int32_t    *ids;
	int32_t    *starts;
	int32_t    *labels;
	DistilRound *round = &trainer->round;
	DistilDevice *device = trainer->workers[0].device;
	DistilError err = {{0}, {0}, {0}};
	int			w;

	snprintf(name, sizeof(name), "%s.ids", kind);
	ids = golden(name, &t);
	snprintf(name, sizeof(name), "%s.starts", kind);
	starts = golden(name, &n);
	snprintf(name, sizeof(name), "%s.labels", kind);
	labels = golden(name, NULL);
	distil_round_begin(trainer, learn);
	memcpy(round->ids, ids, t * sizeof(int32_t));
	memcpy(round->starts, starts, n * sizeof(int32_t));
	round->nmicro = 1;
	round->nsequences = (int) n - 1;
	round->ntokens = (int) t;
	round->micro[0] = (DistilMicroBatch) {.sequences = (int) n - 1,.tokens = (int) t,.share = 1};
	if (labels != NULL)
	{
		size_t		i;

		memcpy(round->labels, labels, t * sizeof(int32_t));
		for (i = 0; i < t; i++)
			round->micro[0].labels += labels[i] != DISTIL_NO_LABEL;
	}
	for (w = 0; w < trainer->nworkers; w++)
	{
		device->ops->zero(device, trainer->workers[w].gradients, trainer->student.table.total);
		memset(trainer->workers[w].losses, 0, sizeof(trainer->workers[w].losses));
		trainer->workers[w].load = 0;
	}
	/* the goldens are without dropout */
	trainer->student.config.hidden_dropout = 0;
	trainer->student.config.embedding_dropout = 0;
	trainer->student.config.attention_dropout = 0;
	/* and the batch is not in the spool */
	trainer->cache.enabled = false;
	MUST(distil_round_run(trainer, &err));
	free(ids);
	free(starts);
	free(labels);
}

/*
 * Gradients of all parameters against the golden ones.  They were made in float64 from
 * float32 weights; ours are float32 sums over some hundred terms: 1e-5 of the largest
 * of a parameter is about a hundred roundings.
 */
static int
compare_gradients(const DistilTrainer *trainer, const char *kind)
{
	const DistilParamTable *table = &trainer->student.table;
	int			compared = 0;
	int			p;
	int			s;

	for (p = 0; p < table->n; p++)
	{
		const DistilParam *param = &table->params[p];
		size_t		part = param->count / (size_t) param->nsources;

		for (s = 0; s < param->nsources; s++)
		{
			const float *mine = trainer->workers[0].gradients + param->offset + (size_t) s * part;
			char		name[400];
			float	   *theirs;
			double		largest = 0;
			double		difference = 0;
			size_t		count;
			size_t		i;

			snprintf(name, sizeof(name), "%s.%s", kind, param->sources[s]);
			theirs = golden(name, &count);
			if (theirs == NULL)
				continue;
			CHECK_MSG(count == part, "%s", name);
			for (i = 0; i < count; i++)
			{
				largest = check_worse(largest, fabs(theirs[i]));
				difference = check_worse(difference, fabs(theirs[i] - mine[i]));
			}
			/* The key's bias has no gradient but rounding: softmax does not see it. */
			CHECK_MSG(difference <= 2e-5 * largest + 2e-6, "%s: differs by %g of %g", name, difference,
					  largest);
			compared++;
			free(theirs);
		}
	}
	return compared;
}

static void
test_triple(const char *backend)
{
	static const char *const json[2] = {
		"{\"layers\": [1, 0], \"alpha_ce\": 5, \"alpha_mlm\": 2, \"alpha_mse\": 0.5,"
		"\"alpha_cos\": 1, \"max_tokens\": 64, \"freeze_pos_embs\": false}",
		"{\"layers\": [1, 0], \"alpha_ce\": 5, \"alpha_mlm\": 2, \"alpha_mse\": 0.5,"
		"\"alpha_cos\": 1, \"max_tokens\": 64, \"freeze_pos_embs\": false, \"restrict_ce_to_mask\": true}"
	};
	static const double alpha[4] = {5, 2, 0.5, 1};
	DistilDevice *device = fixture_device(backend);
	DistilError err = {{0}, {0}, {0}};
	double	   *losses = golden("triple.losses", NULL);
	Fixture		teacher;
	int			k;
	int			i;

	fixture_open(&teacher, "test/golden/models/bert-mlm");
	for (k = 0; k < 2; k++)
	{
		DistilTrainOptions options = fixture_options(teacher.model, "triple", json[k]);
		DistilTrainer *trainer;
		void	   *spool;
		size_t		size;

		fixture_spool(&spool, &size, teacher.model, &options, 20);
		MUST(distil_trainer_create(&trainer, teacher.model, &options, spool, size, &device, 1,
								   distil_alloc_system(), NULL, &err));
		run_batch(trainer, "triple", true);
		/* relative 1e-5: float32 logits, sums in double */
		for (i = 0; i < 4; i++)
			CHECK_NEAR(trainer->workers[0].losses[i] / alpha[i], losses[k * 4 + i], 1e-5 * losses[k * 4 + i]);
		CHECK(compare_gradients(trainer, k == 0 ? "triple0" : "triple1") >= (k == 0 ? 41 : 23));

		/* logits a few rows at a time give the same */
		trainer->logits_rows = 5;
		trainer->piece_limit = 20;
		run_batch(trainer, "triple", true);
		CHECK(trainer->round.npieces == 4);
		for (i = 0; i < 4; i++)
			CHECK_NEAR(trainer->workers[0].losses[i] / alpha[i], losses[k * 4 + i], 1e-5 * losses[k * 4 + i]);
		CHECK(compare_gradients(trainer, k == 0 ? "triple0" : "triple1") >= (k == 0 ? 41 : 23));
		distil_trainer_free(trainer);
		free(spool);
	}
	free(losses);
	fixture_close(&teacher);
	device->ops->close(device);
}

static void
test_causal(const char *backend)
{
	static const double alpha[4] = {2000, 2, 0.5, 1};
	DistilDevice *device = fixture_device(backend);
	DistilError err = {{0}, {0}, {0}};
	double	   *losses = golden("causal.losses", NULL);
	DistilTrainOptions options;
	DistilTrainer *trainer;
	Fixture		teacher;
	void	   *spool;
	size_t		size;
	int			i;
	int			k;

	fixture_open_head(&teacher, "gpt2", "lm");
	options = fixture_options(teacher.model, "triple",
							  "{\"layers\": [1, 0], \"alpha_ce\": 2000, \"alpha_mse\": 0.5}");
	fixture_spool(&spool, &size, teacher.model, &options, 20);
	MUST(distil_trainer_create(&trainer, teacher.model, &options, spool, size, &device, 1,
							   distil_alloc_system(), NULL, &err));
	for (k = 0; k < 2; k++)
	{
		run_batch(trainer, "causal", true);
		/* 1e-6: a divergence of 1e-3 is the sum of differences of logarithms of size 6 */
		for (i = 0; i < 4; i++)
			CHECK_NEAR(trainer->workers[0].losses[i] / alpha[i], losses[i], 1e-5 * losses[i] + 1e-6);
		CHECK(compare_gradients(trainer, "causal") >= 28);
		trainer->logits_rows = 5;
		trainer->piece_limit = 20;
	}
	distil_trainer_free(trainer);
	free(spool);
	free(losses);
	fixture_close(&teacher);
	device->ops->close(device);
}

/* Labels of a round are the next tokens of each sequence, with nothing masked. */
static void
test_causal_labels(void)
{
	DistilDevice *device = fixture_device("cpu");
	DistilError err = {{0}, {0}, {0}};
	DistilTrainOptions options;
	DistilTrainer *trainer;
	Fixture		teacher;
	void	   *spool;
	size_t		size;
	int			i;
	int			k;

	fixture_open_head(&teacher, "gpt2", "lm");
	options = fixture_options(teacher.model, "triple", "{\"batch_size\": 3}");
	fixture_spool(&spool, &size, teacher.model, &options, 20);
	MUST(distil_trainer_create(&trainer, teacher.model, &options, spool, size, &device, 1,
							   distil_alloc_system(), NULL, &err));
	distil_round_begin(trainer, true);
	for (k = 0; k < 2; k++)
	{
		const int32_t *sequences;
		int			n;

		distil_sampler_batch(trainer->sampler, k, &sequences, &n);
		CHECK(n == 3 && distil_round_add(trainer, sequences, n, k, 1));
		CHECK(trainer->round.micro[k].labels == trainer->round.micro[k].tokens - n);
	}
	CHECK(trainer->round.nsequences == 6);
	for (i = 0; i < trainer->round.nsequences; i++)
	{
		const int32_t *ids = trainer->round.ids;
		int			from = trainer->round.starts[i];
		int			to = trainer->round.starts[i + 1];

		CHECK(memcmp(ids + from, trainer->spool.ids + trainer->spool.starts[trainer->round.sequences[i]],
					 (size_t) (to - from) * sizeof(int32_t)) == 0);
		CHECK(to - from > DISTIL_SPOOL_SHORT && ids[from] == 0 && ids[to - 1] == 0);
		CHECK(memcmp(trainer->round.labels + from, ids + from + 1,
					 (size_t) (to - from - 1) * sizeof(int32_t)) == 0);
		CHECK(trainer->round.labels[to - 1] == DISTIL_NO_LABEL);
	}
	distil_trainer_free(trainer);
	free(spool);
	fixture_close(&teacher);
	device->ops->close(device);
}

static void
test_embedding(const char *backend)
{
	DistilDevice *device = fixture_device(backend);
	DistilError err = {{0}, {0}, {0}};
	double	   *losses = golden("embedding.losses", NULL);
	DistilTrainOptions options;
	DistilTrainer *trainer;
	Fixture		teacher;
	void	   *spool;
	size_t		size;

	fixture_open(&teacher, "test/golden/models/bert-sentence");
	options = fixture_options(teacher.model, "embedding", "{\"layers\": [1]}");
	fixture_spool(&spool, &size, teacher.model, &options, 20);
	MUST(distil_trainer_create(&trainer, teacher.model, &options, spool, size, &device, 1,
							   distil_alloc_system(), NULL, &err));
	run_batch(trainer, "embedding", true);
	CHECK_NEAR(trainer->workers[0].losses[DISTIL_LOSS_EMBEDDING], losses[0], 1e-5 * losses[0]);
	CHECK(compare_gradients(trainer, "embedding") >= 20);
	distil_trainer_free(trainer);
	free(spool);
	free(losses);
	fixture_close(&teacher);
	device->ops->close(device);
}

static double
total_loss(DistilTrainer *trainer, const char *kind)
{
	double		total = 0;
	int			i;

	run_batch(trainer, kind, false);
	for (i = 0; i < DISTIL_LOSS_TERMS; i++)
		total += trainer->workers[0].losses[i];
	return total;
}

/*
 * Analytic gradient against central differences along its own direction: one number for
 * all parameters at once.  A step of 1e-3 of the weights' scale leaves an error of the
 * third derivative and of float32 rounding, below 1 %.
 */
static void
test_direction(const char *folder, const char *kind, const char *json)
{
	bool		causal = strcmp(kind, "causal") == 0;
	DistilDevice *device = fixture_device("reference");
	DistilError err = {{0}, {0}, {0}};
	DistilTrainOptions options;
	DistilTrainer *trainer;
	Fixture		teacher;
	void	   *spool;
	size_t		size;
	size_t		total;
	size_t		i;
	double		norm = 0;
	double		h;
	double		plus;
	double		minus;
	float	   *gradient;
	float	   *weights;

	if (causal)
		fixture_open_head(&teacher, folder, "lm");
	else
		fixture_open(&teacher, folder);
	options = fixture_options(teacher.model, causal ? "triple" : kind, json);
	fixture_spool(&spool, &size, teacher.model, &options, 20);
	MUST(distil_trainer_create(&trainer, teacher.model, &options, spool, size, &device, 1,
							   distil_alloc_system(), NULL, &err));
	run_batch(trainer, kind, true);
	total = trainer->student.table.total;
	gradient = malloc(total * sizeof(float));
	weights = malloc(total * sizeof(float));
	device->ops->copy_out(device, gradient, trainer->workers[0].gradients, total * sizeof(float));
	device->ops->copy_out(device, weights, trainer->copies[0].weights, total * sizeof(float));
	for (i = 0; i < total; i++)
		norm += (double) gradient[i] * gradient[i];
	norm = sqrt(norm);
	CHECK(norm > 0.01);
	h = 3e-3 / norm;
	for (i = 0; i < total; i++)
		trainer->copies[0].weights[i] = weights[i] + (float) (h * gradient[i]);
	plus = total_loss(trainer, kind);
	for (i = 0; i < total; i++)
		trainer->copies[0].weights[i] = weights[i] - (float) (h * gradient[i]);
	minus = total_loss(trainer, kind);
	CHECK_NEAR((plus - minus) / (2 * h * norm * norm), 1, 0.01);
	free(gradient);
	free(weights);
	distil_trainer_free(trainer);
	free(spool);
	fixture_close(&teacher);
	device->ops->close(device);
}

/* ---------- a student of all layers is its teacher ---------- */

typedef struct Rows
{
	float	   *data;
	size_t		used;
} Rows;

static DistilStatus
keep_row(void *ctx, int t, const float *row, int n, DistilError *err)
{
	Rows	   *rows = ctx;

	(void) t;
	(void) err;
	rows->data = realloc(rows->data, (rows->used + (size_t) n) * sizeof(float));
	memcpy(rows->data + rows->used, row, (size_t) n * sizeof(float));
	rows->used += (size_t) n;
	return DISTIL_OK;
}

static void
logits_of(const DistilModel *model, DistilDevice *device, Rows *rows)
{
	static const char text[] = "the cat sat on the river ; a [MASK] reads rows of the table";
	DistilText	view = {text, sizeof(text) - 1};
	DistilError err = {{0}, {0}, {0}};
	DistilSession *session;
	int			tokens;

	rows->data = NULL;
	rows->used = 0;
	MUST(distil_session_create(&session, model, device, 0, distil_alloc_system(), NULL, &err));
	MUST(distil_session_lm_logits(session, &view, NULL, keep_row, rows, &tokens, &err));
	distil_session_free(session);
}

static void
test_extraction(const char *folder, const char *json)
{
	DistilDevice *device = fixture_device("reference");
	DistilError err = {{0}, {0}, {0}};
	DistilTrainOptions options;
	DistilTrainer *trainer;
	const DistilFolder *made;
	Fixture		teacher;
	Fixture		student;
	Rows		mine;
	Rows		theirs;
	void	   *spool;
	size_t		size;
	size_t		i;
	double		difference = 0;

	fixture_open(&teacher, folder);
	options = fixture_options(teacher.model, "triple", json);
	fixture_spool(&spool, &size, teacher.model, &options, 20);
	MUST(distil_trainer_create(&trainer, teacher.model, &options, spool, size, &device, 1,
							   distil_alloc_system(), NULL, &err));
	CHECK(distil_trainer_done(trainer));
	MUST(distil_trainer_student(trainer, &made, &err));
	fixture_from_folder(&student, made);
	CHECK(strcmp(distil_model_info(student.model)->architecture, "distilbert") == 0);
	CHECK(distil_model_info(student.model)->has_lm_head);
	CHECK(distil_model_info(student.model)->layers == distil_model_info(teacher.model)->layers);
	logits_of(teacher.model, device, &theirs);
	logits_of(student.model, device, &mine);
	CHECK(mine.used == theirs.used && mine.used > 0);
	for (i = 0; i < mine.used && i < theirs.used; i++)
		difference = check_worse(difference, fabs(mine.data[i] - theirs.data[i]));
	/* the segment row is added in another order: some roundings of logits of size 10 */
	CHECK_MSG(difference < 5e-5, "logits differ by %g", difference);
	free(mine.data);
	free(theirs.data);
	distil_trainer_free(trainer);
	fixture_close(&student);
	fixture_close(&teacher);
	free(spool);
	device->ops->close(device);
}

int
main(void)
{
	DistilFolder *folder;

	open_goldens(&folder);
	test_triple("reference");
	test_triple("cpu");
	test_causal("reference");
	test_causal("cpu");
	test_causal_labels();
	test_embedding("reference");
	test_embedding("cpu");
	test_direction("test/golden/models/bert-mlm", "triple",
				   "{\"layers\": [1], \"alpha_mse\": 0.01, \"freeze_pos_embs\": false}");
	test_direction("test/golden/models/bert-sentence", "embedding", "{\"layers\": [1]}");
	test_direction("gpt2", "causal", "{\"layers\": [1], \"alpha_mse\": 0.01}");
	test_extraction("test/golden/models/bert-mlm", "{\"layers\": [0, 1], \"max_steps\": 0}");
	test_extraction("test/golden/models/distilbert-mlm", "{\"layers\": [0, 1, 2], \"max_steps\": 0}");
	distil_tensor_set_free(goldens);
	distil_folder_close_disk(folder, distil_alloc_system());
	return check_report("train_losses");
}
