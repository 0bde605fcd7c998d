"""`hydra/launcher=ray`: the jobs of a sweep as tasks of a Ray cluster, on this machine if none is named.

Jobs leave what they came to as files in the folder of the sweep, as under every launcher of other processes: the
machines of a cluster share the disk that the runs lie on, and have the project at the same path. A worker that dies is
started again `max_retries` times, and its run goes on from its last checkpoint.
"""

# No `from __future__ import annotations`: Hydra looks for plugins in modules that are not in sys.modules yet, where a
# dataclass cannot look its own annotations up.
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

log = logging.getLogger(f"glora.{__name__}")


@dataclass
class RayConf:
    """What a job takes of the cluster.

    Attributes:
        address: of the cluster, such as "auto" or "ray://head:10001"; None: one of this machine, for this command.
        num_cpus: cores of a job, which its products take as many threads as.
        num_gpus: of a job; None: one where the cluster has any.
        max_retries: how often a job whose worker died begins again.
    """

    _target_: str = "hydra_plugins.glora_ray.RayLauncher"
    address: str | None = None
    num_cpus: int = 1
    num_gpus: float | None = None
    max_retries: int = 2


ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayConf, provider="glora")


class RayLauncher(Launcher):
    """Starts every job as a Ray task and waits for all of them."""

    def __init__(self, **conf: Any) -> None:
        self._conf = RayConf(**{k: v for k, v in conf.items() if k != "_target_"})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a job needs."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; one whose worker is lost for good has no outcome, which the end of the sweep says.

        Raises:
            ConfigError: if Ray is not installed or its cluster cannot be reached.
        """
        from runner import signals
        from runner.config.errors import ConfigError
        from runner.sweep.local import python_path

        try:
            import ray
        except ImportError as error:
            raise ConfigError("hydra/launcher=ray needs Ray: pip install -e '.[ray]'") from error
        conf = self._conf
        variables = {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": str(conf.num_cpus)}
        try:
            with signals.kept():  # Ray's aborts the process 3 s after SIGTERM, which its own shutdown outlasts
                ray.init(address=conf.address, runtime_env={"env_vars": variables}, include_dashboard=False,
                         log_to_driver=False, configure_logging=False)  # fmt: skip
        except Exception as error:
            raise ConfigError(f"no Ray cluster at hydra.launcher.address={conf.address} ({error}); start one with "
                              "ray start --head, or leave the address out") from error  # fmt: skip
        try:
            gpus = conf.num_gpus
            if gpus is None:
                gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
            run = ray.remote(num_cpus=conf.num_cpus, num_gpus=gpus, max_retries=conf.max_retries)(_run)
            shared = (self._context, self._config, self._task, Singleton.get_state(), os.getcwd())
            tasks = [run.remote(initial_job_idx + n, list(words), *shared) for n, words in enumerate(job_overrides)]
            with signals.as_it_came():
                return [self._returned(ray, task) for task in tasks]
        finally:
            ray.shutdown()

    def _returned(self, ray: Any, task: Any) -> JobReturn:
        try:
            returned: JobReturn = ray.get(task)
            return returned
        except ray.exceptions.RayError as error:
            log.warning("a Ray worker was lost: %s", str(error).splitlines()[0])
            return JobReturn(status=JobStatus.COMPLETED)


def _run(
    number: int,
    overrides: list[str],
    context: HydraContext,
    config: DictConfig,
    task: TaskFunction,
    state: dict[Any, Any],
    folder: str,
) -> JobReturn:
    """One job, in a worker of the cluster."""
    os.chdir(folder)
    setup_globals()
    Singleton.set_state(state)
    own = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(own):
        own.hydra.job.id, own.hydra.job.num = f"{own.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(own)
    return run_job(hydra_context=context, config=own, task_function=task, job_dir_key="hydra.sweep.dir",
                   job_subdir_key="hydra.sweep.subdir")  # fmt: skip
