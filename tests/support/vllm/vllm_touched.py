"""What the code touches of vLLM: found in our sources and classes.

Keys are those of the table `vllm_surface.json`: ``module`` for what is imported from it, and
``module:name`` for members of a class that are called, overridden, read or set. Members are found
by themselves where a class of ours derives from vLLM's; `MEMBERS` names the others.
"""

import argparse
import ast
import functools
import importlib
import inspect
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from vllm_surface import FLAGS, member

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("kernels", "media", "model", "server", "demo", "benchmarks")
Names = dict[str, set[str]]

# Attributes of arguments that no flag gives.
_NO_FLAGS = {"enable_log_requests", "log_format"}
# Group of entry points, not a module.
_NOT_MODULES = {"vllm.general_plugins"}
# Members of objects that vLLM hands us, or that we patch.
MEMBERS = {
    "vllm.config:VllmConfig": "cache_config compilation_config ec_transfer_config "
    "kv_transfer_config lora_config model_config parallel_config quant_config scheduler_config "
    "shutdown_timeout",
    "vllm.config.cache:CacheConfig": "block_size num_gpu_blocks",
    "vllm.config.compilation:CompilationConfig": "compile_mm_encoder cudagraph_mm_encoder "
    "encoder_cudagraph_max_frames_per_batch encoder_cudagraph_token_budgets",
    "vllm.config.lora:LoRAConfig": "enable_tower_connector_lora",
    "vllm.config.model:ModelConfig": "get_multimodal_config hf_config hf_image_processor_config "
    "max_model_len quantization",
    "vllm.config.multimodal:MultiModalConfig": "get_limit_per_prompt mm_encoder_attn_backend "
    "mm_encoder_attn_dtype mm_encoder_tp_mode video_pruning_rate",
    "vllm.config.parallel:ParallelConfig": "data_parallel_size pipeline_parallel_size",
    "vllm.config.scheduler:SchedulerConfig": "max_num_batched_tokens max_num_seqs policy",
    "vllm.distributed.device_communicators.shm_broadcast:SpinCondition": "busy_loop_s last_read "
    "notify wait",
    "vllm.engine.arg_utils:AsyncEngineArgs": "_api_process_count _api_process_rank "
    "create_engine_config disable_log_stats from_cli_args",
    "vllm.engine.protocol:EngineClient": "errored generate get_supported_tasks renderer",
    "vllm.entrypoints.openai.chat_completion.protocol:ChatCompletionRequest": "build_tok_params "
    "to_sampling_params",
    "vllm.entrypoints.openai.chat_completion.serving:OpenAIServingChat": "create_chat_completion",
    "vllm.entrypoints.openai.completion.serving:OpenAIServingCompletion": "create_completion",
    "vllm.entrypoints.openai.models.serving:OpenAIServingModels": "show_available_models",
    "vllm.entrypoints.openai.responses.protocol:ResponsesRequest": "input",
    "vllm.entrypoints.openai.responses.serving:OpenAIServingResponses": "create_responses",
    "vllm.entrypoints.serve.engine.protocol:ErrorInfo": "code message param",
    "vllm.entrypoints.serve.engine.protocol:ErrorResponse": "error",
    "vllm.entrypoints.serve.tokenize.serving:ServingTokenization": "create_detokenize "
    "create_tokenize",
    "vllm.envs": "VLLM_ALLOW_INSECURE_SERIALIZATION VLLM_ALLOW_RUNTIME_LORA_UPDATING "
    "VLLM_CPU_KVCACHE_SPACE VLLM_CPU_OMP_THREADS_BIND VLLM_ENABLE_RESPONSES_API_STORE "
    "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH VLLM_MEDIA_CONNECTOR VLLM_NO_USAGE_STATS "
    "VLLM_SERVER_DEV_MODE VLLM_WORKER_MULTIPROC_METHOD",
    "vllm.exceptions:VLLMValidationError": "parameter",
    "vllm.inputs.engine:MultiModalInput": "mm_hashes mm_kwargs mm_placeholders prompt_token_ids",
    "vllm.model_executor.models.registry:_ModelRegistry": "register_model",
    "vllm.multimodal.cache:BaseMultiModalProcessorCache": "get_and_update_item is_cached_item "
    "release_sender_touches touch_sender_cache_item",
    "vllm.multimodal.inputs:MultiModalFeatureSpec": "data identifier mm_position modality",
    "vllm.multimodal.inputs:MultiModalFieldConfig": "batched",
    "vllm.multimodal.inputs:PlaceholderRange": "length offset",
    "vllm.multimodal.processing.inputs:ProcessorInputs": "cache hf_processor_mm_kwargs "
    "mm_data_items mm_uuid_items prompt",
    "vllm.platforms.interface:Platform": "device_type dist_backend is_cpu",
    "vllm.renderers.base:BaseRenderer": "clear_mm_cache get_mm_processor",
    "vllm.renderers.params:ChatParams": "chat_template chat_template_content_format "
    "chat_template_kwargs get_apply_chat_template_kwargs media_io_kwargs mm_processor_kwargs",
    "vllm.renderers.params:TokenizeParams": "get_encode_kwargs",
    "vllm.renderers.registry:RendererRegistry": "renderers",
    "vllm.v1.core.encoder_cache_manager:EncoderCacheManager": "get_cached_num_encoder_embeds",
    "vllm.v1.core.sched.output:SchedulerOutput": "has_structured_output_requests",
    "vllm.v1.core.sched.request_queue:RequestQueue": "peek_request",
    "vllm.v1.engine:EngineCoreOutput": "prefill_stats",
    "vllm.v1.engine:EngineCoreOutputs": "outputs",
    "vllm.v1.engine:EngineCoreRequest": "mm_features",
    "vllm.v1.engine.async_llm:AsyncLLM": "engine_core output_handler vllm_config",
    "vllm.v1.engine.core_client:BackgroundResources": "engine_dead engine_manager "
    "output_queue_task",
    "vllm.v1.engine.core_client:MPClient": "resources",
    "vllm.v1.engine.coordinator:DPCoordinator": "get_stats_publish_address shutdown",
    "vllm.v1.engine.utils:CoreEngineLaunch": "coordinator engine_manager tensor_queue "
    "watched_frontend_processes",
    "vllm.v1.engine.utils:EngineZmqListeners": "addresses inputs outputs",
    "vllm.v1.engine.utils:CoreEngineProcManager": "processes shutdown",
    "vllm.v1.executor:Executor": "get_class",
    "vllm.v1.request:Request": "has_encoder_inputs mm_features num_computed_tokens "
    "num_prompt_tokens",
    "vllm.v1.utils:APIServerProcessManager": "processes shutdown",
}

# What the source of a module must say: words that we look for in what vLLM sends, and where it
# leaves what we take from there.
TEXTS = {
    "vllm.entrypoints.generate.api_router": [
        "state.openai_serving_chat =",
        "state.openai_serving_completion =",
        "state.openai_serving_responses =",
    ],
    "vllm.entrypoints.launchers.api_server.app_state": [
        "state.openai_serving_models =",
        "state.serving_tokenization =",
    ],
    "vllm.entrypoints.launchers.launcher": ["app.state.server ="],
    "vllm.entrypoints.generate.base.serving": ["X-Vllm-Priority"],
    "vllm.entrypoints.openai.responses.serving": ["exceeds the max_model_len"],
    "vllm.plugins": ["vllm.general_plugins"],
    "vllm.utils.system_utils": ["VLLM"],
}


def sources() -> Iterator[Path]:
    """Our Python files, tests included; not those that are about the table."""
    for folder in (*PACKAGES, "tests"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if not re.fullmatch(r"(test_)?vllm_(surface|table|touched)", file.stem):
                yield file


def imported_names(files: Iterable[Path]) -> Names:
    """Names that files import from vLLM, by module; "" is the module itself."""
    found: Names = defaultdict(set)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level and _of_vllm(node.module):
                found[str(node.module)].update(alias.name for alias in node.names)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if _of_vllm(alias.name):
                        found[alias.name].add("")
            elif isinstance(node, ast.Constant) and _is_module_name(node.value):
                found[node.value].add("")
    return found


def passed_keywords(files: Iterable[Path]) -> Names:
    """Keywords that files pass in calls, by the name that is called."""
    found: Names = defaultdict(set)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found[node.func.id].update(word.arg for word in node.keywords if word.arg)
    return found


def _of_vllm(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == "vllm"


def _is_module_name(value: object) -> bool:
    return (
        isinstance(value, str)
        and re.fullmatch(r"vllm(\.\w+)+", value) is not None
        and value not in _NOT_MODULES
    )


@functools.cache
def inherited_members() -> Names:
    """Members of vLLM's classes that classes of ours override or reach through ``self``."""
    for package in ("model", "server", "benchmarks"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if "vllm" in file.read_text(encoding="utf-8"):
                names = file.relative_to(ROOT).with_suffix("").parts
                importlib.import_module(".".join(("saccade", *names)))
    found: Names = defaultdict(set)
    for module in [m for name, m in sys.modules.items() if name.startswith("saccade.")]:
        for ours in vars(module).values():
            if inspect.isclass(ours) and ours.__module__ == module.__name__:
                for base in ours.__bases__:
                    if _of_vllm(base.__module__):
                        reached = _reached(ours)
                        known = {name for name in reached if member(base, name) is not None}
                        if known:
                            found[f"{base.__module__}:{base.__qualname__}"] |= known
    return found


def _reached(ours: type) -> set[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(ours)))
    through_self = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
            or (isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()")
        )
    }
    own = {name for name in vars(ours) if not name.startswith(("__", "_abc_"))}
    return (through_self | own) - {"name", "__init__"}


def read_flags() -> set[str]:
    """Flags of vLLM that the server refuses, sets or reads, as names of attributes."""
    from saccade.server.core import settings
    from saccade.server.engine import flags

    found = {*flags._REFUSED, *flags._DEFAULTS}
    for file in set((ROOT / "server").rglob("*.py")) - _own_flags():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in ("args", "arguments")
            ):
                found.add(node.attr)
    parser = argparse.ArgumentParser()
    settings.add_settings_arguments(parser)
    return found - {action.dest for action in parser._actions} - _NO_FLAGS


def _own_flags() -> set[Path]:
    """Commands whose flags are all ours: every one but ``serve``."""
    commands = ROOT / "server/commands"
    return {*commands.rglob("*.py")} - {commands / "serve.py"}


def touched() -> Names:
    """All that the code touches, by key of the table."""
    found = imported_names(sources())
    for key, names in inherited_members().items():
        found.setdefault(key, set()).update(names)
    for key, text in MEMBERS.items():
        found.setdefault(key, set()).update(text.split())
    for module, texts in TEXTS.items():
        found[f"text in {module}"] = set(texts)
    found[FLAGS] = read_flags()
    return found
