/*
 * graph_cuda.cuh
 *		Operations noted once and repeated as one: CUDA graphs.
 *
 * A DistilGraph is an executable graph of the driver, made of what came to the stream meanwhile.
 * The rule a newcomer would break: a copy is never noted, as the host's memory may be another one when it
 * is repeated; and a failure while operations are noted is none of the device.
 */
#ifndef DISTIL_GRAPH_CUDA_CUH
#define DISTIL_GRAPH_CUDA_CUH

#include "cuda_device.cuh"

static bool
cuda_may_copy(CudaDevice *cuda)
{
	cuda->unrepeatable |= cuda->noting;
	return !cuda->noting;
}

static bool
cuda_graph_begin(DistilDevice *dev)
{
	CudaDevice *cuda = cuda_device(dev);

	cuda_use(cuda);
	if (cuda->failure[0] != '\0' ||
		cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess)
	{
		(void) cudaGetLastError();
		return false;
	}
	cuda->noting = true;
	cuda->unrepeatable = false;
	return true;
}

static DistilGraph *
cuda_graph_end(DistilDevice *dev)
{
	CudaDevice *cuda = cuda_device(dev);
	cudaGraph_t graph = NULL;
	cudaGraphExec_t repeated = NULL;

	cuda_use(cuda);
	if (cudaStreamEndCapture(cuda->stream, &graph) != cudaSuccess)
		graph = NULL;
	if (graph != NULL && !cuda->unrepeatable && cudaGraphInstantiate(&repeated, graph, 0) != cudaSuccess)
		repeated = NULL;
	if (graph != NULL)
		(void) cudaGraphDestroy(graph);
	(void) cudaGetLastError();
	cuda->noting = false;
	return (DistilGraph *) repeated;
}

static void
cuda_graph_run(DistilDevice *dev, DistilGraph *graph)
{
	cuda_use(cuda_device(dev));
	cuda_note(cuda_device(dev), cudaGraphLaunch((cudaGraphExec_t) graph, cuda_device(dev)->stream),
			  "a graph");
}

static void
cuda_graph_free(DistilDevice *dev, DistilGraph *graph)
{
	if (graph == NULL)
		return;
	cuda_use(cuda_device(dev));
	cuda_note(cuda_device(dev), cudaGraphExecDestroy((cudaGraphExec_t) graph), "cudaGraphExecDestroy");
}

#endif							/* DISTIL_GRAPH_CUDA_CUH */
