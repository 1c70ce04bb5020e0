# distil: build with PGXS.  Files are found by wildcard: a new one needs no edit here.
#
#   make                 distil.so for the server of $(PG_CONFIG)
#   make install         (DESTDIR=... stages it)
#   make unit            engine and kernels without a server: test/unit, run
#   make unit SAN=1      the same under AddressSanitizer and UBSan
#   make unit SAN=thread the tests with threads under ThreadSanitizer
#   make unit-cuda       the CUDA kernels on the CPU: compiled by a C++ compiler over test/cuda/cuda_runtime.h, run
#   make gpu-tests       the same beside the real module, not run (test/check_gpu.sh does)
#   make tools           programs of test/tools (make bench-engine: those of test/bench), not run
#   make fuzz            libFuzzer programs of test/fuzz (needs clang), not run
#   make check-layers    include rules and exported symbols
#
# With CUDA's nvcc (NVCC=path, NVCC= for none) distil_cuda.so is built and installed too; distil.so never needs it.
# BUILD=dir keeps the objects of `unit` and `fuzz` elsewhere.

MODULE_big = distil
EXTENSION = distil distil_vector
DATA = distil--1.0.sql distil_vector--1.0.sql
REGRESS = model quantize infer heads token vector errors privileges encodings batch batch_lazy train distil_vector
PGFILEDESC = "distil - transformer models inside PostgreSQL"

KERNEL_SOURCES = $(wildcard kernels/*.c kernels/ref/*.c kernels/cpu/*.c kernels/standin/*.c)
ENGINE_SOURCES = $(wildcard src/engine/*.c)
PG_SOURCES = $(wildcard src/pg/*.c)
ENGINE_OBJS = $(KERNEL_SOURCES:.c=.o) $(ENGINE_SOURCES:.c=.o)
OBJS = $(ENGINE_OBJS) $(PG_SOURCES:.c=.o)

INCLUDES = -Ikernels -Isrc/engine
PG_CPPFLAGS = $(INCLUDES)
SHLIB_LINK = -ljansson -lm -ldl -lpthread

# Only SQL functions and entry points of the server are exported: on 15 the headers do not say so.
EXPORTS = build/exports.map
SHLIB_LINK += -Wl,--version-script=$(EXPORTS)
SHLIB_PREREQS = $(EXPORTS)

EXTRA_CLEAN = build $(OBJS) distil_cuda.so

# No LLVM bitcode: the functions are heavy, inlining them into queries gains nothing.
override with_llvm := no

PG_CONFIG ?= pg_config
ifneq ($(filter unit unit-run unit-cuda gpu-tests tools fuzz check-layers bench-engine,$(MAKECMDGOALS)),)
# These targets need no server.
all:
else
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
endif

$(EXPORTS): $(PG_SOURCES:.c=.o)
	@mkdir -p $(@D)
	nm $^ | awk 'BEGIN { print "{ global: _PG_init; Pg_magic_func; distil_*_main; pg_finfo_*;" } \
		$$3 ~ /^pg_finfo_/ { print substr($$3, 10) ";" } END { print "local: *; };" }' > $@

# Engine and kernels: optimised, nothing exported, no fast-math anywhere.
ENGINE_CFLAGS = -std=gnu11 -O3 -fno-math-errno -fno-trapping-math -fvisibility=hidden
# Products and sums are fused by the kernels of an instruction set only: elsewhere results must not depend on the compiler.
NO_FMA = -ffp-contract=off
$(ENGINE_OBJS): override CFLAGS += $(ENGINE_CFLAGS)
$(filter-out kernels/cpu/ops_%.o kernels/cpu/int8_%.o,$(ENGINE_OBJS)) kernels/cpu/ops_portable.o kernels/cpu/int8_portable.o: override CFLAGS += $(NO_FMA)
$(OBJS): $(wildcard kernels/*.h kernels/*/*.h src/engine/*.h src/pg/*.h)

# Instruction sets by file name; which one runs is decided by CPUID at run time.
ISA_avx2 = -mavx2 -mfma -mf16c -mprefer-vector-width=256 -ffp-contract=fast
ISA_avx512 = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c -mprefer-vector-width=512 -ffp-contract=fast
ISA_avx512_bf16 = $(ISA_avx512_vnni) -mavx512bf16 -mavx512vbmi
# Tiles are written as assembly, see tile_amx.h.
ISA_amx = $(ISA_avx512) -mavx512vbmi -mavx512bf16 $(HALF_FLAG)
# Compilers before GCC 12 have no half floats: quantising for AMX then takes longer.
HALF_FLAG := $(shell $(CC) -mavx512fp16 -E -x c /dev/null >/dev/null 2>&1 && echo -mavx512fp16)
ISA_amx_plain = $(ISA_avx512) -mavx512vbmi
ISA_avx_vnni = $(ISA_avx2) -mavxvnni
ISA_avx512_vnni = $(ISA_avx512) -mavx512vnni
# For other processors these files are empty.
ISAS := $(if $(filter x86_64-%,$(shell $(or $(UNIT_CC),$(CC)) -dumpmachine)),avx2 avx_vnni avx512 avx512_vnni avx512_bf16 amx amx_plain)
$(foreach isa,$(ISAS),$(eval kernels/cpu/ops_$(isa).o kernels/cpu/int8_$(isa).o: override CFLAGS += $(ISA_$(isa))))

# ---- the CUDA backend: a module of its own, opened at run time ----
NVCC ?= $(firstword $(shell command -v nvcc /usr/local/cuda/bin/nvcc 2>/dev/null))
# Machine code for Ampere, Hopper and Blackwell; PTX for what comes.
CUDA_ARCHITECTURES ?= -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90,code=sm_90 -gencode=arch=compute_100,code=[sm_100,compute_100]
CUDA_FLAGS = -std=c++17 -O3 -Ikernels -Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror,-fPIC,-fvisibility=hidden,-fno-threadsafe-statics
# The module needs the C library only.
CUDA_LINK = -Xcompiler -static-libstdc++,-static-libgcc -Xlinker --exclude-libs,ALL -ldl
CUDA_FILES = $(wildcard kernels/cuda/*.cu kernels/cuda/*.cuh) kernels/kernels.h

distil_cuda.so: $(CUDA_FILES)
	$(NVCC) $(CUDA_FLAGS) $(CUDA_ARCHITECTURES) -shared -o $@ kernels/cuda/module_cuda.cu $(CUDA_LINK)

ifneq ($(NVCC),)
all: distil_cuda.so
install: install-cuda
install-cuda: distil_cuda.so installdirs
	$(INSTALL_SHLIB) distil_cuda.so '$(DESTDIR)$(pkglibdir)/distil_cuda.so'
.PHONY: install-cuda
endif

# ---- engine without a server: unit tests, fuzzers ----
BUILD ?= build
ifdef SAN
SAN_FLAGS_thread = -fsanitize=thread
SAN_FLAGS_1 = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
# Copies of kernels take minutes to compile with -O3, or with the places of variables; the reference takes them to run without -O2.
# Of what is not initialised the plain build warns: with checks between the lines the compiler is often wrong.
SAN_FLAGS = -O1 -g1 -Wno-uninitialized $(SAN_FLAGS_$(SAN))
UNIT_DIR = $(BUILD)/unit-san-$(SAN)
$(UNIT_DIR)/kernels/ref/%.o $(UNIT_DIR)/kernels/standin/%.o: ISA = -O2
else
UNIT_DIR = $(BUILD)/unit
endif
UNIT_CC ?= cc
# What runs the tests of another processor, say qemu-aarch64-static.
UNIT_RUN ?=
UNIT_CFLAGS = -g -Wall -Wextra -Werror -Wdeclaration-after-statement -Wmissing-prototypes -Wvla $(ENGINE_CFLAGS) $(NO_FMA) $(SAN_FLAGS) -DDISTIL_TEST_AMX_PLAIN $(INCLUDES)
UNIT_LIBS = -ljansson -lm -ldl -lpthread
UNIT_OBJS = $(addprefix $(UNIT_DIR)/,$(KERNEL_SOURCES:.c=.o) $(ENGINE_SOURCES:.c=.o))
UNIT_TESTS = $(patsubst test/unit/%.c,$(UNIT_DIR)/%,$(wildcard test/unit/test_*.c))
ifeq ($(SAN),thread)
UNIT_TESTS = $(addprefix $(UNIT_DIR)/,test_thread_pool test_session_share test_train test_train_group)
endif

$(foreach isa,$(ISAS),$(eval $(UNIT_DIR)/kernels/cpu/ops_$(isa).o $(UNIT_DIR)/kernels/cpu/int8_$(isa).o: ISA = $(ISA_$(isa))))
$(UNIT_DIR)/%.o: %.c $(wildcard kernels/*.h kernels/*/*.h src/engine/*.h)
	@mkdir -p $(@D)
	$(UNIT_CC) $(UNIT_CFLAGS) $(ISA) -c -o $@ $<
$(UNIT_DIR)/libengine.a: $(UNIT_OBJS)
	@rm -f $@
	ar rcs $@ $^
$(UNIT_DIR)/test_%: test/unit/test_%.c $(UNIT_DIR)/libengine.a $(wildcard test/unit/*.h)
	$(UNIT_CC) $(UNIT_CFLAGS) -Itest/unit -o $@ $< $(UNIT_DIR)/libengine.a $(UNIT_LIBS)
$(UNIT_DIR)/tools/%: test/tools/%.c $(UNIT_DIR)/libengine.a
	@mkdir -p $(@D)
	$(UNIT_CC) $(UNIT_CFLAGS) -Itest/unit -o $@ $< $(UNIT_DIR)/libengine.a $(UNIT_LIBS)
$(UNIT_DIR)/bench/%: test/bench/%.c $(UNIT_DIR)/libengine.a
	@mkdir -p $(@D)
	$(UNIT_CC) $(UNIT_CFLAGS) -Itest/unit -o $@ $< $(UNIT_DIR)/libengine.a $(UNIT_LIBS)
tools: $(patsubst test/tools/%.c,$(UNIT_DIR)/tools/%,$(wildcard test/tools/*.c))
bench-engine: $(patsubst test/bench/%.c,$(UNIT_DIR)/bench/%,$(wildcard test/bench/bench_*.c))

.PHONY: unit tools fuzz check-layers bench-engine
# As many at a time as -j says, those that take longest first; one that fails does not stop the others.
LONG_TESTS = $(foreach t,train_architectures kernel_rows standin low kernel_sequences train_group session encoder train,$(filter %/test_$(t),$(UNIT_TESTS)))
unit: $(UNIT_TESTS)
	@+$(MAKE) -s -k --no-print-directory unit-run
UNIT_RUNS = $(addsuffix .run,$(LONG_TESTS) $(filter-out $(LONG_TESTS),$(UNIT_TESTS)))
unit-run: $(UNIT_RUNS)
$(UNIT_RUNS): %.run:
	@$(UNIT_RUN) $*
.PHONY: unit-run $(UNIT_RUNS)

# The module compiled for the CPU lies beside the tests that open it.
EMULATED_DIR = $(UNIT_DIR)/cuda
EMULATED_TESTS = $(patsubst %.c,$(EMULATED_DIR)/%,$(notdir $(wildcard test/cuda/test_*.c)) test_kernels.c test_kernel_sequences.c test_kernel_half.c test_standin.c test_train_group.c)
EMULATED_FLAGS = -x c++ -std=c++17 -O2 -g -fno-strict-aliasing -Wall -Wextra -Werror -Wno-unknown-pragmas -fPIC -fvisibility=hidden -shared
$(EMULATED_DIR)/distil_cuda.so: $(CUDA_FILES) $(wildcard test/cuda/*.h)
	@mkdir -p $(@D)
	$(CXX) $(EMULATED_FLAGS) -Itest/cuda -Ikernels -o $@ kernels/cuda/module_cuda.cu
# NCCL's place is taken by a stub, and in a second run of some tests cuBLASLt's.
EMULATED_STUB = @mkdir -p $(@D) && $(UNIT_CC) $(UNIT_CFLAGS) -fPIC -shared -Wl,-soname,$(@F) -o $@ $<
$(EMULATED_DIR)/libnccl.so.2: test/cuda/nccl_stub.c $(wildcard test/cuda/*.h)
	$(EMULATED_STUB)
$(EMULATED_DIR)/blas/libcublasLt.so.13: test/cuda/cublaslt_stub.c $(wildcard test/cuda/*.h)
	$(EMULATED_STUB)
$(EMULATED_TESTS): $(EMULATED_DIR)/libnccl.so.2 $(EMULATED_DIR)/blas/libcublasLt.so.13
vpath test_%.c test/unit test/cuda
$(EMULATED_DIR)/test_%: test_%.c $(EMULATED_DIR)/distil_cuda.so $(UNIT_DIR)/libengine.a $(wildcard test/unit/*.h)
	$(UNIT_CC) $(UNIT_CFLAGS) -DDISTIL_TEST_CUDA -DDISTIL_TEST_EMULATED -Itest/unit -o $@ $< $(UNIT_DIR)/libengine.a $(UNIT_LIBS)
EMULATED_BLAS_TESTS = $(addprefix $(EMULATED_DIR)/,test_cuda_blas test_cuda_products test_cuda_graph test_kernel_half test_standin)
unit-cuda: $(EMULATED_TESTS)
	@status=0; export EMULATED_DEVICES=3; \
	for t in $(filter-out %/test_cuda_blas,$(EMULATED_TESTS)); do LD_LIBRARY_PATH=$(abspath $(EMULATED_DIR)) $$t || status=1; done; \
	for t in $(EMULATED_BLAS_TESTS); do LD_LIBRARY_PATH=$(abspath $(EMULATED_DIR)):$(abspath $(EMULATED_DIR)/blas) $$t || status=1; done; exit $$status

# The same tests, and test/gpu_train.c, beside the real module, for test/check_gpu.sh: without jansson.
GPU_DIR = $(UNIT_DIR)/gpu
GPU_TESTS = $(patsubst $(EMULATED_DIR)/%,$(GPU_DIR)/%,$(EMULATED_TESTS)) $(GPU_DIR)/gpu_train
PLAIN_OBJS = $(filter-out %/json.o,$(UNIT_OBJS)) $(UNIT_DIR)/test/cuda/json_plain.o
$(UNIT_DIR)/libengine-plain.a: $(PLAIN_OBJS)
	@rm -f $@
	ar rcs $@ $^
$(GPU_DIR)/distil_cuda.so: $(CUDA_FILES)
	@mkdir -p $(@D)
	$(NVCC) $(CUDA_FLAGS) $(CUDA_ARCHITECTURES) -shared -o $@ kernels/cuda/module_cuda.cu $(CUDA_LINK)
$(GPU_DIR)/%: %.c $(GPU_DIR)/distil_cuda.so $(UNIT_DIR)/libengine-plain.a $(wildcard test/unit/*.h)
	$(UNIT_CC) $(UNIT_CFLAGS) -DDISTIL_TEST_CUDA -Itest/unit -o $@ $< $(UNIT_DIR)/libengine-plain.a -lm -ldl -lpthread
vpath gpu_train.c test
gpu-tests: $(GPU_TESTS)
.PHONY: unit-cuda gpu-tests

FUZZ_DIR = $(BUILD)/fuzz
FUZZ_CC ?= clang
FUZZ_CFLAGS = -g -O1 -std=gnu11 -fno-math-errno -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined $(INCLUDES)
# Fuzzers compute nothing: the copies of kernels, long to compile, are left out, and linking fails where one is needed.
FUZZ_SOURCES = $(filter-out kernels/cpu/ops_% kernels/cpu/int8_%,$(KERNEL_SOURCES)) $(ENGINE_SOURCES)
FUZZ_OBJS = $(addprefix $(FUZZ_DIR)/,$(FUZZ_SOURCES:.c=.o))
FUZZERS = $(patsubst test/fuzz/%.c,$(FUZZ_DIR)/%,$(wildcard test/fuzz/fuzz_*.c))
$(FUZZ_DIR)/%.o: %.c $(wildcard kernels/*.h kernels/*/*.h src/engine/*.h)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -c -o $@ $<
$(FUZZ_DIR)/libengine.a: $(FUZZ_OBJS)
	@rm -f $@
	ar rcs $@ $^
$(FUZZ_DIR)/fuzz_%: test/fuzz/fuzz_%.c $(FUZZ_DIR)/libengine.a
	$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $< $(FUZZ_DIR)/libengine.a $(UNIT_LIBS)
fuzz: $(FUZZERS)

check-layers:
	test/check_layers.sh
