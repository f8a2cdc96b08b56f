# cadtrain: `make help` lists the verbs.
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
MODE ?= release
BUILD ?= build
OBJ := $(BUILD)/$(MODE)-$(notdir $(firstword $(CC)))
PKGS := hdf5 yaml-0.1 jansson libpcre2-8 libutf8proc libxxhash zlib
MPI_CFLAGS := $(shell pkg-config --cflags ompi-c 2>/dev/null || mpicc --showme:compile)
MPI_LIBS := $(shell pkg-config --libs ompi-c 2>/dev/null || mpicc --showme:link)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Werror
HARD := -fstack-protector-strong -fPIE
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DCAD_NO_CLONES
CFLAGS_fuzz := -O1 -g -Wno-pass-failed -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all -fno-omit-frame-pointer -DCAD_NO_CLONES
LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_fuzz := -fsanitize=address,undefined
CFLAGS := -std=c11 -D_GNU_SOURCE $(WARN) $(HARD) -fopenmp -ffp-contract=off -fno-math-errno $(CFLAGS_$(MODE)) \
  -Iinclude $(addprefix -isystem ,$(patsubst -I%,%,$(filter -I%,$(MPI_CFLAGS) $(PKG_CFLAGS)))) $(EXTRA_CFLAGS)
LDFLAGS := -pie -Wl,-z,relro,-z,now -fopenmp $(LDFLAGS_$(MODE))
LIBS := $(MPI_LIBS) $(PKG_LIBS) -ldnnl -lm -lpthread
Q := $(if $(V),,@)

CUDA_HOME ?= /usr/local/cuda
NVCC ?= $(CUDA_HOME)/bin/nvcc
CUDA_TARGETS ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
CXX := $(if $(findstring clang,$(CC)),clang++,g++)
CXXFLAGS := -std=c++20 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wno-unknown-pragmas -Wno-pass-failed -Werror -fno-exceptions -fno-rtti -fno-strict-aliasing $(HARD) -fopenmp -ffp-contract=off \
  -fno-math-errno $(CFLAGS_$(MODE)) -Iinclude $(EXTRA_CFLAGS)
NVCCFLAGS := -std=c++20 -O3 -lineinfo -Werror all-warnings -Xcompiler -Wall,-Wextra,-fPIE,-fno-exceptions,-O2 -Iinclude $(CUDA_TARGETS)

# Kernels are compiled for the host (device "emulated"), and with CUDA=1 by nvcc too.
KERNELS := $(sort $(wildcard src/device/cuda/cuda_*.cu))
EMULATED_OBJ := $(KERNELS:%.cu=$(OBJ)/%.emulated.o)
ifeq ($(CUDA),1)
$(if $(shell command -v $(NVCC)),,$(error CUDA=1 needs nvcc: expected $(NVCC); set CUDA_HOME to the toolkit, or NVCC to the compiler))
$(if $(wildcard $(CUDA_HOME)/include/cublasLt.h),,$(error CUDA=1 needs cuBLASLt: expected $(CUDA_HOME)/include/cublasLt.h; install libcublas-dev of the toolkit))
CUDA_OBJ := $(patsubst %.cu,$(BUILD)/cuda/%.o,$(KERNELS) $(sort $(wildcard src/device/cuda/nvcc_*.cu)))
LEFT_OUT := src/device/cuda/cuda_absent.c src/comm/nccl_absent.c
NCCL_HOME ?= $(firstword $(foreach d,$(CUDA_HOME) /usr/local /usr,$(if $(wildcard $(d)/include/nccl.h),$(d))))
$(if $(wildcard $(NCCL_HOME)/include/nccl.h),,$(error CUDA=1 needs NCCL's header: expected nccl.h in $(CUDA_HOME)/include or /usr/include; install libnccl-dev, or set NCCL_HOME))
LIBS += -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lcudart_static -lstdc++ -lrt -ldl
OUT := $(OBJ)-cuda
else
OUT := $(OBJ)
LEFT_OUT := src/device/cuda/cuda_present.c src/comm/nccl_real.c
endif

SRC := $(filter-out $(LEFT_OUT),$(shell find src -name '*.c' | sort))
LIB_SRC := $(filter-out src/cli/main.c,$(SRC))
LIB_OBJ := $(LIB_SRC:%.c=$(OBJ)/%.o)
UNIT_SRC := $(shell find test/unit -name 'test_*.c' 2>/dev/null | sort)
UNIT_BIN := $(UNIT_SRC:%.c=$(OUT)/%)
MPI_SRC := $(shell find test/mpi -name 'mpi_*.c' 2>/dev/null | sort)
MPI_BIN := $(MPI_SRC:%.c=$(OUT)/%)
FUZZ_SRC := $(sort $(wildcard test/fuzz/fuzz_*.c))
REPLAY_BIN := $(FUZZ_SRC:test/fuzz/fuzz_%.c=$(OUT)/test/fuzz/replay_%)
FUZZ_BIN := $(FUZZ_SRC:%.c=$(OUT)/%)
BENCH_BIN := $(patsubst %.c,$(OUT)/%,$(wildcard benchmarks/*.c benchmarks/gpu/*.c))
EMBED := $(shell find configs -name '*.yaml' -o -name '*.json' 2>/dev/null | sort)
PREFIX ?= /usr/local

.PHONY: FORCE all test programs unit fuzz fuzzers mpi asan watched bench install info help gates clean
.SECONDARY:
all: $(BUILD)/cadtrain $(BUILD)/libcadtrain.a ## build the program and the library

help: ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/ \t/'

info: ## what was found and what will be built
	@echo "compiler  $$($(CC) --version | head -1)"; echo "mode      $(MODE) -> $(OBJ)"
	@for p in $(PKGS); do printf '%-9s %s\n' "$$p" "$$(pkg-config --modversion $$p 2>/dev/null || echo missing)"; done
	@echo "mpi       $$(mpirun --version 2>/dev/null | head -1)"

# The list of its files: one that is gone leaves no newer file behind.
$(OBJ)/embedded.list: FORCE
	@mkdir -p $(@D)
	$(Q)echo '$(EMBED)' | cmp -s - $@ || echo '$(EMBED)' > $@
$(OBJ)/embedded.c: $(EMBED) $(OBJ)/embedded.list test/tools/embed.sh Makefile
	@mkdir -p $(@D)
	$(Q)sh test/tools/embed.sh $(EMBED) > $@.tmp && mv $@.tmp $@
$(OBJ)/embedded.o: $(OBJ)/embedded.c
	$(Q)$(CC) $(CFLAGS) -Wno-overlength-strings -c -o $@ $<

$(OBJ)/src/comm/nccl_real.o: EXTRA_CFLAGS += -isystem $(NCCL_HOME)/include -isystem $(CUDA_HOME)/include
$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/%.emulated.o: %.cu
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX $<")
	$(Q)$(CXX) $(CXXFLAGS) -x c++ -MMD -MP -c -o $@ $<
$(BUILD)/cuda/%.o: %.cu
	@mkdir -p $(@D)
	$(if $(V),,@echo "  NVCC $<")
	$(Q)$(NVCC) $(NVCCFLAGS) -Xptxas -v -MMD -MP -c -o $@ $< 2>$@.usage || { cat $@.usage; exit 1; }

$(OUT)/libcadtrain.a: $(LIB_OBJ) $(EMULATED_OBJ) $(CUDA_OBJ) $(OBJ)/embedded.o
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^
$(BUILD)/libcadtrain.a: $(OUT)/libcadtrain.a FORCE
	$(Q)cmp -s $< $@ || cp $< $@
$(OUT)/cadtrain: $(OBJ)/src/cli/main.o $(OUT)/libcadtrain.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/cadtrain: $(OUT)/cadtrain FORCE
	$(Q)cmp -s $< $@ || cp $< $@
FORCE:

# The program, and the table of operations, with GPU kernels and their grid alone under the address sanitizer: soon built (test/run.sh).
WATCHED := $(BUILD)/watched-$(notdir $(firstword $(CC)))
WATCH := -O1 -g1 -U_FORTIFY_SOURCE -fsanitize=address -fno-omit-frame-pointer
WATCHED_OBJ := $(KERNELS:%.cu=$(WATCHED)/%.emulated.o) $(patsubst %.c,$(WATCHED)/%.o,$(wildcard src/device/cuda/emulated_*.c))
$(WATCHED)/%.emulated.o: %.cu
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX $< (watched)")
	$(Q)$(CXX) $(CXXFLAGS) $(WATCH) -x c++ -MMD -MP -c -o $@ $<
$(WATCHED)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $< (watched)")
	$(Q)$(CC) $(CFLAGS) $(WATCH) -MMD -MP -c -o $@ $<
$(WATCHED)/cadtrain: $(OBJ)/src/cli/main.o $(WATCHED_OBJ) $(OUT)/libcadtrain.a
	$(Q)$(CC) $(LDFLAGS) -fsanitize=address -o $@ $^ $(LIBS)
$(WATCHED)/test_ops_emulated: test/unit/device/test_ops_emulated.c $(WATCHED_OBJ) $(OUT)/libcadtrain.a
	$(Q)$(CC) $(CFLAGS) $(WATCH) -Itest -o $@ $^ $(LDFLAGS) -fsanitize=address -lcmocka $(LIBS)
watched: $(WATCHED)/cadtrain $(WATCHED)/test_ops_emulated ## GPU kernels under the address sanitizer, on the processor

$(OUT)/test/unit/%: test/unit/%.c $(OUT)/libcadtrain.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -Itest -MMD -MP -o $@ $< $(OUT)/libcadtrain.a $(LDFLAGS) -lcmocka $(LIBS)
$(OUT)/test/mpi/%: test/mpi/%.c $(OUT)/libcadtrain.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -Itest -MMD -MP -o $@ $< $(OUT)/libcadtrain.a $(LDFLAGS) -lcmocka $(LIBS)

$(OUT)/test/fuzz/replay_%: test/fuzz/fuzz_%.c test/fuzz/replay.c test/fuzz/fuzz.h $(OUT)/libcadtrain.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -Itest -o $@ $< test/fuzz/replay.c $(OUT)/libcadtrain.a $(LDFLAGS) $(LIBS)
$(OUT)/test/fuzz/fuzz_%: test/fuzz/fuzz_%.c test/fuzz/fuzz.h $(OUT)/libcadtrain.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -fsanitize=fuzzer -Itest -o $@ $< $(OUT)/libcadtrain.a $(LDFLAGS) $(LIBS)

$(OUT)/benchmarks/%: benchmarks/%.c $(OUT)/libcadtrain.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -MMD -MP -o $@ $< $(OUT)/libcadtrain.a $(LDFLAGS) $(LIBS)

unit: $(UNIT_BIN) $(REPLAY_BIN) ## build the unit tests (run them with test/run.sh)
programs: $(BENCH_BIN) ## build the benchmarks' programs
fuzzers: $(FUZZ_BIN) $(REPLAY_BIN)
fuzz: ## the fuzz targets with clang and libFuzzer (run them with test/fuzz/run.sh)
	@$(MAKE) CC=clang MODE=fuzz fuzzers
mpi: $(MPI_BIN) ## build the tests that run on several ranks
gates: ## layers, foreign headers, names
	@sh test/gates/run.sh
test: ## every test that needs no GPU
	@./test/run.sh
asan: ## the tests under the address and undefined-behaviour sanitizers
	@./test/run.sh --asan
bench: all $(BENCH_BIN) ## speed and memory, as JSON (PEER=1: beside Transformers + PEFT)
	@BUILD=$(BUILD) BENCH=$(OUT)/benchmarks ./benchmarks/run.sh $(if $(PEER),--peer)
install: all ## into PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include/cadtrain
	install -m 755 $(BUILD)/cadtrain $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(BUILD)/libcadtrain.a $(DESTDIR)$(PREFIX)/lib/
	cp -r include/cadtrain/. $(DESTDIR)$(PREFIX)/include/cadtrain/
clean: ## remove what was built
	rm -rf $(BUILD)

-include $(shell find $(OBJ) $(OUT) $(WATCHED) $(BUILD)/cuda -name '*.d' 2>/dev/null)
