"""Every public name of Flyte 2.12.1 is here, is refused with a reason, or is listed as due.

The tables are literal: Flyte is not installed where these tests run.
"""

import importlib

import pytest

import millstream
from millstream._absent import ABSENT

#: Module -> its public names. The empty module is `flyte` itself.
FLYTE = {
    "": """
        AMD_GPU APPLE_SILICON AppHandle AsyncFunctionTaskTemplate Backoff BaseCheckpoint Cache
        CachePolicy CacheRequest Checkpoint ConditionWebhook Cron Device DeviceClass
        Documentation Environment FixedRate GPU HABANA_GAUDI Image ImageBuild Link Neuron
        OnArtifact PodTemplate Resources RetryStrategy ReusePolicy Secret SecretRequest TPU
        TaskEnvironment TaskTemplate Timeout TimeoutType Trigger TriggerTime TriggeredArtifact
        TriggeredPartition __version__ build build_images ctx current_domain current_project
        custom_context deploy get_custom_context group init init_from_api_key init_from_config
        init_in_cluster init_passthrough is_control_plane_available latest_checkpoint
        load_interactive_ctx load_plugin_config logger map new_condition rerun run
        run_python_script serve system_logger trace version with_runcontext with_servecontext
    """,
    "app": """
        AppEndpoint AppEnvironment ArtifactValue ConnectorEnvironment DeployedAppEnvironment
        Domain Link Parameter Port RunOutput Scaling Subdomain Timeouts ctx get_parameter
    """,
    "app.extras": """
        FastAPIAppEnvironment FastAPIPassthroughAuthMiddleware FlyteWebhookAppEnvironment
    """,
    "artifacts": """
        Artifact ArtifactKey ArtifactVersionId Card CardFormat CardType Granularity KIND_KEY
        Kind MAX_PARENTS Metadata TimePartition new produces
    """,
    "config": """
        Config auto get_config_file set_if_exists
    """,
    "durable": """
        now sleep time
    """,
    "errors": """
        APPLE_SILICON_ERRORS_BY_CODE ActionAbortedError ActionNotFoundError
        AppleSiliconBridgeUnreachableError AppleSiliconDaemonOOMError
        AppleSiliconDaemonStartFailedError AppleSiliconError AppleSiliconHostExecFailedError
        AppleSiliconModelNotFoundError AppleSiliconNotAvailableError BaseRuntimeError
        CodeBundleError ConditionAlreadyExistsError ConditionFailedError ConditionNotFoundError
        ConditionTimedoutError CustomError DeadlineExceededError DeploymentError GPUFaultError
        GPUFaultSystemError GPUFaultUserError GPU_FAULT_CODES ImageBuildError
        ImagePullBackOffError InitializationError InlineIOMaxBytesBreached InvalidImageNameError
        InvalidPackageError LogsNotYetAvailableError MaxQueuedTimeExceededError
        MaxRuntimeExceededError ModuleLoadError NonRecoverableError NotInTaskContextError
        OOMError OnlyAsyncIOSupportedError ParameterMaterializationError
        PrimaryContainerNotFoundError RemoteTaskNotFoundError RemoteTaskUsageError
        ResourceExhaustedError RestrictedTypeError RetriesExhaustedError
        RuntimeDataValidationError RuntimeSystemError RuntimeUnknownError RuntimeUserError
        SlowDownError SyncTaskCallInAsyncContextError TaskInterruptedError TaskTimeoutError
        TraceDoesNotAllowNestedTasksError UnionRpcError silence_polling_error
    """,
    "extend": """
        Architecture AsyncFunctionTaskTemplate ImageBuildEngine ImageBuilder ImageChecker
        PRIMARY_CONTAINER_DEFAULT_NAME RuntimeTaskTemplate TaskPluginRegistry TaskTemplate
        download_code_bundle get_proto_extended_resources get_proto_resources is_initialized
        lazy_module pod_spec_from_resources
    """,
    "extras": """
        BatchStats ContainerTask CostEstimator DynamicBatcher Prompt Sleep SleepTask
        TokenBatcher TokenEstimator model_streamer serialize serialize_env shell webhooks
    """,
    "git": """
        GitStatus config_from_root
    """,
    "io": """
        DataFrame Dir EmptyDir File HashFunction PARQUET
    """,
    "models": """
        ActionID ActionPhase CLUSTERED_WORKER_ENV CallCounter CheckpointPaths CodeBundle
        GroupData MAX_INLINE_IO_BYTES NULL_TASK_CONTEXT NativeInterface PathRewrite RawDataPath
        SerializationContext TaskContext generate_random_name is_clustered_worker_env
    """,
    "notify": """
        Email NamedDelivery NamedRule Notification Slack Teams Webhook
    """,
    "remote": """
        Action ActionDetails ActionInputs ActionOutputs App Artifact Condition PartitionSchema
        Project Run RunDetails SecretTypes Settings Task TaskDetails TimeFilter Trigger
        TriggerDetails User auth_metadata upload_dir upload_file
    """,
    "report": """
        Report Timeline abbreviate current_report duration_ms flush get_tab log replace
    """,
    "storage": """
        ABFS GCS S3 Storage exists exists_sync get get_configured_fsspec_kwargs
        get_random_local_directory get_random_local_path get_stream get_underlying_filesystem
        is_remote join open put put_stream
    """,
    "syncify": """
        Syncify syncify
    """,
    "types": """
        FlytePickle Renderable TypeEngine TypeTransformer TypeTransformerFailedError
        guess_interface literal_string_repr
    """,
}
#: Modules of Flyte that are not here yet.
DUE_MODULES: set[str] = set()
#: Names that are not here yet. One that has come must leave this table.
DUE: dict[str, str] = {}
NAMES = [(module, name) for module, names in FLYTE.items() for name in names.split()]


def is_there(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(f"millstream.{module}" if module else "millstream")
    except ModuleNotFoundError:
        return False
    return hasattr(found, name)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_name_of_flyte_is_here_or_is_known_not_to_be(module: str, name: str) -> None:
    is_due = module in DUE_MODULES or name in DUE.get(module, "").split()
    is_absent = name in ABSENT.get(module, {})
    assert is_there(module, name) or is_due or is_absent
    if is_there(module, name):
        assert not is_absent


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in ABSENT.items() for n in names])
def test_a_name_that_is_not_here_is_refused_with_the_reason(module: str, name: str) -> None:
    found = importlib.import_module(f"millstream.{module}" if module else "millstream")
    with pytest.raises(AttributeError, match="of Flyte is not in Millstream: ") as caught:
        getattr(found, name)
    assert ABSENT[module][name] in str(caught.value)


def test_a_mistyped_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(AttributeError, match="did you mean 'TaskEnvironment'"):
        millstream.TaskEnviroment  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'DynamicBatcher'"):
        millstream.extras.DynamicBacher  # noqa: B018


@pytest.mark.parametrize(
    "module",
    [
        "app", "app.extras", "artifacts", "config", "extend", "extras", "git", "models", "remote",
        "syncify",
    ],
)  # fmt: skip
def test_public_modules_list_what_they_have(module: str) -> None:
    found = importlib.import_module(f"millstream.{module}")
    assert all(hasattr(found, name) for name in found.__all__)
