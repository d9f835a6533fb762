"""Script: what an engine on the bundled model answers to `questions`, in one dtype.

``dtype_answers.py OUT.json DTYPE`` writes the greedy tokens of each answer.
"""

import json
import sys
from pathlib import Path

from engine import engine
from questions import TOKENS, as_prompt, questions

from saccade.server.checkpoint.bundled import bundled_checkpoint

if __name__ == "__main__":
    from vllm import SamplingParams

    out, dtype = sys.argv[1:]
    with engine(bundled_checkpoint(), dtype=dtype, mm_processor_kwargs={}) as llm:
        tokenizer = llm.get_tokenizer()
        prompts = [as_prompt(tokenizer, *question) for question in questions()]
        sampling = SamplingParams(temperature=0, max_tokens=TOKENS)
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        Path(out).write_text(json.dumps([list(each.outputs[0].token_ids) for each in outputs]))
