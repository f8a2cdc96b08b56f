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
LDFLAGS_asan := -fsanitize=address,undefined
CFLAGS := -std=c11 -D_GNU_SOURCE $(WARN) $(HARD) -fopenmp -ffp-contract=off -fno-math-errno $(CFLAGS_$(MODE)) \
  -Iinclude $(addprefix -isystem ,$(patsubst -I%,%,$(filter -I%,$(MPI_CFLAGS) $(PKG_CFLAGS)))) $(EXTRA_CFLAGS)
LDFLAGS := -pie -Wl,-z,relro,-z,now -fopenmp $(LDFLAGS_$(MODE))
LIBS := $(MPI_LIBS) $(PKG_LIBS) -ldnnl -lm -lpthread
Q := $(if $(V),,@)

SRC := $(shell find src -name '*.c' | sort)
LIB_SRC := $(filter-out src/cli/main.c,$(SRC))
LIB_OBJ := $(LIB_SRC:%.c=$(OBJ)/%.o)
UNIT_SRC := $(shell find test/unit -name 'test_*.c' 2>/dev/null | sort)
UNIT_BIN := $(UNIT_SRC:%.c=$(OBJ)/%)
MPI_SRC := $(shell find test/mpi -name 'mpi_*.c' 2>/dev/null | sort)
MPI_BIN := $(MPI_SRC:%.c=$(OBJ)/%)
BENCH_BIN := $(patsubst %.c,$(OBJ)/%,$(wildcard benchmarks/*.c))
EMBED := $(shell find configs -name '*.yaml' -o -name '*.json' 2>/dev/null | sort)
PREFIX ?= /usr/local

.PHONY: all test unit mpi asan bench install info help gates clean
.SECONDARY:
all: $(BUILD)/cadtrain $(BUILD)/libcadtrain.a ## build the program and the library

help: ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/ \t/'

info: ## what was found and what will be built
	@echo "compiler  $$($(CC) --version | head -1)"; echo "mode      $(MODE) -> $(OBJ)"
	@for p in $(PKGS); do printf '%-9s %s\n' "$$p" "$$(pkg-config --modversion $$p 2>/dev/null || echo missing)"; done
	@echo "mpi       $$(mpirun --version 2>/dev/null | head -1)"

$(OBJ)/embedded.c: $(EMBED) test/tools/embed.sh Makefile
	@mkdir -p $(@D)
	$(Q)sh test/tools/embed.sh $(EMBED) > $@.tmp && mv $@.tmp $@
$(OBJ)/embedded.o: $(OBJ)/embedded.c
	$(Q)$(CC) $(CFLAGS) -Wno-overlength-strings -c -o $@ $<

$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/libcadtrain.a: $(LIB_OBJ) $(OBJ)/embedded.o
	$(Q)rm -f $@ && ar rcs $@ $^
$(BUILD)/libcadtrain.a: $(OBJ)/libcadtrain.a
	$(Q)cp $< $@
$(OBJ)/cadtrain: $(OBJ)/src/cli/main.o $(OBJ)/libcadtrain.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/cadtrain: $(OBJ)/cadtrain
	$(Q)cp $< $@

$(OBJ)/test/unit/%: test/unit/%.c $(OBJ)/libcadtrain.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -Itest -MMD -MP -o $@ $< $(OBJ)/libcadtrain.a $(LDFLAGS) -lcmocka $(LIBS)
$(OBJ)/test/mpi/%: test/mpi/%.c $(OBJ)/libcadtrain.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -Itest -MMD -MP -o $@ $< $(OBJ)/libcadtrain.a $(LDFLAGS) -lcmocka $(LIBS)

$(OBJ)/benchmarks/%: benchmarks/%.c $(OBJ)/libcadtrain.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(CFLAGS) -MMD -MP -o $@ $< $(OBJ)/libcadtrain.a $(LDFLAGS) $(LIBS)

unit: $(UNIT_BIN) ## build the unit tests (run them with test/run.sh)
mpi: $(MPI_BIN) ## build the tests that run on several ranks
gates: ## layers, foreign headers, names
	@sh test/gates/run.sh
test: ## every test that needs no GPU
	@./test/run.sh
asan: ## the tests under the address and undefined-behaviour sanitizers
	@./test/run.sh --asan
bench: all $(BENCH_BIN) ## speed and memory, as JSON (PEER=1: beside Transformers + PEFT)
	@BUILD=$(BUILD) BENCH=$(OBJ)/benchmarks ./benchmarks/run.sh $(if $(PEER),--peer)
install: all ## into PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include/cadtrain
	install -m 755 $(BUILD)/cadtrain $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(BUILD)/libcadtrain.a $(DESTDIR)$(PREFIX)/lib/
	cp -r include/cadtrain/. $(DESTDIR)$(PREFIX)/include/cadtrain/
clean: ## remove what was built
	rm -rf $(BUILD)

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
