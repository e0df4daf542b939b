export CGO_ENABLED ?= 0
SIMIAN := bin/simian

# A test that fails is run once more, alone; one that passes then is named
# (docs/decisions/0029-a-failed-test-is-run-once-more.md).
TEST := go tool gotestsum --format pkgname --format-icons text --format-hide-empty-pkg --hide-summary skipped \
	--rerun-fails=1 --rerun-fails-max-failures=5 --rerun-fails-run-root-test --rerun-fails-abort-on-data-race

.PHONY: build demo quickstart test docker-test kube-test lab lab-kube lab-vm lab-vm-1 lab-vm-2 lab-vm-faults race lint fmt bench bench-launch bench-latency bench-chaos bench-adopt soak fuzz clean

build: ## one static binary, bin/simian
	go build -trimpath -o $(SIMIAN) ./cmd/simian

demo: build ## a shop in seven containers, one of them killed while customers check out; needs root
	sh examples/shop/demo.sh

quickstart: build ## without root: a service of three processes, one of them frozen and killed
	cd examples/quickstart && go build -o ../../bin/quickstart .
	sh examples/quickstart/demo.sh

test: ## all tests, on the real kernel; those that need root say so when they are skipped
	cd examples/quickstart && go test ./...
	cd examples/shop && go test ./...
	cd bench/latency && go test ./...
	$(TEST) --packages ./...

docker-test: ## the tests that need Docker, Podman or containerd, beside daemons of their own
	TEST='$(TEST)' sh test/docker/with.sh sh test/docker/test.sh

# Each package alone: they share the cluster.
KUBE := ./internal/kube/... ./targets/pod ./monkeys/chaos ./cmd/simian ./test/faults

kube-test: ## the tests of pods, beside a real Kubernetes of their own; a skip is a failure
	SIMIAN_KUBE=1 sh test/kube/with.sh $(TEST) --packages '$(KUBE)' -- -count=1 -p 1 -run Kube

lab: ## what the tests need besides: Docker, other runtimes, QEMU and a second kernel
	sh test/docker/lab.sh
	sh test/vm/lab.sh

lab-kube: ## builds the Kubernetes of kube-test: 5 minutes the first time
	sh test/kube/lab.sh

# The packages whose tests touch the kernel. All of their tests run in a VM, and
# none may be skipped there but for these reasons. There are two machines, side
# by side: each is emulated by one thread.
VM1 := ./test/vm ./internal/op ./internal/proc ./internal/box ./internal/seccomp ./internal/labnet \
	./internal/image ./internal/journal ./internal/guard ./targets/process ./targets/native ./cmd/simian
VM2 := ./internal/filter ./internal/gauge ./internal/queue ./internal/impair ./monkeys/chaos ./monkeys/latency

# it has cgroup v2 alone, which is what it is for: the host has v1;
VMFLAGS := -may-skip 'less than [0-9]+ GiB are free|no cgroup v1|cgroup hierarchy "[a-z]+" is not mounted here'
# there is no systemd, no container engine and no cluster in it: the host has them.
VMFLAGS += -may-skip 'no systemd to start|no (Docker|containerd|Kubernetes) runs here|runs? beside this test'
# Not run at all: one that lists packages, with a toolchain;
VMFLAGS += -skip '^TestLayout$$'
# those that promise times, which an emulated processor does not keep;
VMFLAGS += -skip '^(TestShop|TestQuickstart|TestLabThatDoesNotComeUp|TestDependenciesThatFail|TestDeadlineOfAStoppedRunner|TestManyAddAtOnce|TestLogOfMuch|TestLabExec|TestBurnCPU|TestBurnMemoryOOM|TestClockHot|TestClockRestless)$$'
# those that start simian hundreds of times, 2.5 minutes of an emulated processor,
# to cut its journal at each write, which is the same on every kernel.
VMFLAGS += -skip '^(TestKilledAtEveryWrite|TestLabKilledAtEveryWrite)$$'
# and those of files and flags, which every kernel reads alike.
VMFLAGS += -skip '^(TestInvalidFiles|TestExamplesLoad|TestInject.*|TestPolicy|TestTargets)$$'

lab-vm: ## the kernel's tests again, on a second kernel: netem, cgroup v2 alone
	$(MAKE) -j2 -Otarget lab-vm-1 lab-vm-2

lab-vm-1:
	go run ./test/vm -again -timeout 45m $(VMFLAGS) $(VM1)

lab-vm-2:
	go run ./test/vm -again -timeout 45m $(VMFLAGS) $(VM2)

lab-vm-faults: ## every fault on the second kernel: half an hour, so not a part of lab-vm
	go run ./test/vm -again -timeout 60m $(VMFLAGS) ./test/faults

race: ## the packages under the race detector; it needs a C compiler
	CGO_ENABLED=1 $(TEST) --packages './experiment/... ./internal/... ./monkeys/... ./targets/...' -- -race -tags osusergo,netgo

lint:
	go vet ./...
	go tool staticcheck ./...
	test -z "$$(go tool gofumpt -l . | tee /dev/stderr)"

fmt:
	go tool gofumpt -w .

bench: build ## the figures of the README
	go test -run '^$$' -bench . ./bench ./internal/journal ./internal/guard ./internal/report

bench-launch: build ## containers launched by Simian, crun, runc, bwrap and Docker
	sh examples/shop/build.sh
	go run ./bench/launch -simian $(SIMIAN)

bench-latency: build ## how exact delay, loss, jitter and rates are, here and on the second kernel: docs/accuracy.md
	cd bench/latency && go build -trimpath -o ../../bin/bench-latency .
	bin/bench-latency -simian $(SIMIAN) -v -o bin/latency-host.json
	bin/bench-latency -pack bin/latency-tools
	go run ./test/vm -v -timeout 30m -with $(SIMIAN) -with bin/bench-latency -with bin/latency-tools \
		-out bin/latency-vm.json -exec 'bin/bench-latency -v -tools bin/latency-tools'
	bin/bench-latency -report bin/latency-host.json,bin/latency-vm.json -to docs/accuracy.md

bench-chaos: ## how exact and how quick the Chaos Monkey's faults are, beside stress-ng: docs/chaos-figures.md
	go build -trimpath -o bin/bench-chaos ./bench/chaos
	nice -n -20 bin/bench-chaos -to docs/chaos-figures.md

bench-adopt: build ## what runs already: containers of Docker, pods of Kubernetes: docs/adopt-figures.md
	go build -trimpath -o bin/bench-adopt ./bench/adopt
	NODE=no sh test/kube/with.sh go test -count=1 -run '^TestKubeMany$$' -v ./internal/kube >bin/adopt-pods.txt
	sh test/docker/with.sh bin/bench-adopt -pods bin/adopt-pods.txt -to docs/adopt-figures.md

soak: build ## hundreds of runs, each killed at a random moment
	go run ./test/soak -simian $(SIMIAN)

fuzz: ## each fuzz target for half a minute
	go test -run '^$$' -fuzz '^FuzzLoad$$' -fuzztime 30s ./experiment
	go test -run '^$$' -fuzz '^FuzzEvents$$' -fuzzminimizetime 1x -fuzztime 30s ./internal/journal
	go test -run '^$$' -fuzz '^FuzzFold$$' -fuzzminimizetime 10x -fuzztime 30s ./internal/report
	go test -run '^$$' -fuzz '^FuzzCompose$$' -fuzztime 30s ./targets/native
	go test -run '^$$' -fuzz '^FuzzNames$$' -fuzztime 30s ./targets/match
	go test -run '^$$' -fuzz '^FuzzLabels$$' -fuzztime 30s ./targets/match
	go test -run '^$$' -fuzz '^FuzzPolicy$$' -fuzztime 30s ./internal/policy
	go test -run '^$$' -fuzz '^FuzzUnpack$$' -fuzzminimizetime 1x -fuzztime 30s ./internal/image
	go test -run '^$$' -fuzz '^FuzzAnswer$$' -fuzztime 30s ./internal/labnet
	go test -run '^$$' -fuzz '^FuzzFault$$' -fuzztime 30s ./monkeys/latency
	go test -run '^$$' -fuzz '^FuzzPorts$$' -fuzztime 30s ./internal/filter
	go test -run '^$$' -fuzz '^FuzzResolvConf$$' -fuzztime 30s ./internal/filter
	go test -run '^$$' -fuzz '^FuzzHosts$$' -fuzztime 30s ./internal/filter
	go test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime 30s ./internal/dnsrelay
	go test -run '^$$' -fuzz '^FuzzEntry$$' -fuzztime 30s ./internal/dnsrelay
	go test -run '^$$' -fuzz '^FuzzMerge$$' -fuzztime 30s ./internal/queue
	go test -run '^$$' -fuzz '^FuzzNftAttributes$$' -fuzztime 30s ./internal/op
	go test -run '^$$' -fuzz '^FuzzQdiscDecode$$' -fuzztime 30s ./internal/op

clean:
	rm -rf bin examples/shop/rootfs
