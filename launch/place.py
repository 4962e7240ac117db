"""Where a job runs: the part `place` of a job file."""

from typing import Literal, Self

from pydantic import Field, model_validator

from trawl.recipe import Recipe


class Slurm(Recipe):
    """What Slurm alone is asked."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    array: bool = False
    """Queue each machine by itself, as a task of a job array: for corpus builds, which begin with
    the first that starts, and go on as long as there is one."""
    options: list[str] = []
    """Further options of sbatch, each as on its command line: `--constraint=h100`."""


class Ssh(Recipe):
    """The machines that are reached by ssh, the first of which the others meet at."""

    hosts: list[str] = []
    """As ssh takes them, `USER@HOST` or a name of its configuration."""
    options: list[str] = []
    """Options of ssh itself: `-p`, `2222`, `-i`, `key`."""
    interface: str | None = None
    """Network interface that the ranks speak over; None: the one of the machine's own name."""


class Kubernetes(Recipe):
    """What Kubernetes alone is asked."""

    namespace: str = "default"
    kind: Literal["job", "jobset"] = "job"
    """An Indexed Job with a headless service, or a JobSet (v1alpha2), which needs its operator."""
    queue: str | None = None
    """Local queue of Kueue."""
    service_account: str | None = None
    claims: dict[str, str] = {}
    """Persistent volume claims by the path at which a container sees them."""
    node_selector: dict[str, str] = {}


class Ray(Recipe):
    """A Ray cluster: one that runs, or one that KubeRay makes for the job."""

    address: str | None = None
    """Address of the dashboard of a running cluster, as `ray job submit` takes it."""
    version: str = "2.60.0"
    """Version of Ray in the container's image, for KubeRay."""


class Container(Recipe):
    """The image that the work runs in."""

    image: str
    mounts: list[str] = []
    """`SOURCE:TARGET` or `SOURCE:TARGET:ro`, for Slurm's container plug-in (pyxis)."""


class Place(Recipe):
    """Where to run it, and on how much."""

    backend: Literal["local", "ssh", "slurm", "kubernetes", "ray"] = "local"
    """The kind of place."""
    nodes: int = Field(default=1, ge=1)
    """Machines."""
    least_nodes: int | None = Field(default=None, ge=1)
    """Begin with so many where no more are free; None: all of them."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of each machine."""
    processes: int | None = Field(default=None, ge=1)
    """Ranks of a pretraining on each machine; None: one a GPU, or one."""
    cpus: int | None = Field(default=None, ge=1)
    """Cores of each machine."""
    hours: float | None = Field(default=None, gt=0)
    """After so long the attempt is ended, saved, and queued again."""
    port: int = Field(default=29400, ge=1024, le=65535)
    """Port of the first machine at which the others meet it."""
    python: str = "python"
    """The Python on the machines that has Trawl."""
    folder: str | None = None
    """Where the work runs, on every machine; None: where the job is submitted."""
    setup: list[str] = []
    """Lines of shell before it: `module load cuda`."""
    exclude: list[str] = []
    """Machines that are not to be used, as preflight finds them."""
    container: Container | None = None
    slurm: Slurm = Slurm()
    ssh: Ssh = Ssh()
    kubernetes: Kubernetes = Kubernetes()
    ray: Ray = Ray()

    @property
    def hosts(self) -> list[str]:
        """Hosts of ssh that are not excluded, in their order."""
        return [host for host in self.ssh.hosts if host not in self.exclude]

    @property
    def ranks(self) -> int:
        """Ranks of a pretraining on each machine."""
        return self.processes or self.gpus or 1

    @property
    def is_array(self) -> bool:
        """Whether the machines are tasks of a job array."""
        return self.backend == "slurm" and self.slurm.array

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least_nodes is not None and self.least_nodes > self.nodes:
            raise ValueError(f"least_nodes {self.least_nodes} is more than nodes {self.nodes}")
        if self.backend == "local" and self.nodes > 1:
            raise ValueError(f"nodes {self.nodes}: local is this machine alone; choose a backend")
        if self.backend == "ssh" and len(self.ssh.hosts) < self.nodes:
            raise ValueError(f"ssh.hosts: {len(self.ssh.hosts)} for {self.nodes} nodes; name more")
        least = self.least_nodes or self.nodes
        if self.backend == "ssh" and len(self.hosts) < least:
            raise ValueError(
                f"exclude leaves {len(self.hosts)} of ssh.hosts for {least} nodes; name more, or "
                "lower nodes or least_nodes"
            )
        if self.is_array and (self.nodes == 1 or self.least_nodes is not None):
            raise ValueError(
                "slurm.array: each node is queued by itself, and one is enough to begin; give "
                "nodes of 2 or more, and no least_nodes"
            )
        if self.backend == "kubernetes" and self.container is None:
            raise ValueError("container.image: Kubernetes runs images; name one that has Trawl")
        if self.backend == "ray" and self.ray.address is None and self.container is None:
            raise ValueError("give ray.address of a running cluster, or container.image")
        return self
