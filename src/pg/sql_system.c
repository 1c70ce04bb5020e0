/*
 * sql_system.c
 *		The row behind the view distil_system.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "bridge.h"
#include "gpu_client.h"
#include "guc.h"
#include "sql_args.h"

PG_FUNCTION_INFO_V1(distil_system_row);

static Datum
text_or_null(const char *value, bool *isnull)
{
	*isnull = value == NULL || value[0] == '\0';
	return *isnull ? (Datum) 0 : CStringGetTextDatum(value);
}

/* distil.system(): cpu, isa, arithmetic, blas, cuda, devices.  Opens this session's device. */
Datum
distil_system_row(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {false};
	char		message[400];
	Datum		devices[2];
	char	   *service;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "distil.system() must be declared to return a row");
	BlessTupleDesc(desc);
	service = distil_gpu_describe();
	devices[0] = CStringGetTextDatum(psprintf("%s: %s", distil_bridge_device()->ops->name,
											  distil_cpu_name()));
	values[0] = text_or_null(distil_cpu_name(), &nulls[0]);
	values[1] = text_or_null(distil_isa == DISTIL_ISA_AUTO ? distil_device_isa(distil_bridge_device())
							 : distil_guc_isa_name(distil_isa), &nulls[1]);
	values[2] = text_or_null(strcmp(distil_image_layout(distil_precision, distil_bridge_device()),
									DISTIL_LAYOUT_BF16P16) == 0 ? "bfloat16" : "float32", &nulls[2]);
	values[3] = text_or_null(distil_blas_version(), &nulls[3]);
	values[4] = text_or_null(distil_cuda_available(message, sizeof(message)) ? "available" : "", &nulls[4]);
	if (service != NULL)
		devices[1] = CStringGetTextDatum(service);
	values[5] = PointerGetDatum(construct_array(devices, service != NULL ? 2 : 1, TEXTOID, -1, false,
												TYPALIGN_INT));
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
