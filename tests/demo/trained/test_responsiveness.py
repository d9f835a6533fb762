"""The random demo model is a usable stand-in: its answers depend on what it is shown."""

import pytest
import torch
import transformers

from saccade.demo.checkpoints.checkpoint import random_checkpoint

NEW_TOKENS = 12


def patches(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A normalised picture [3, height, width] as patches [h * w, 1176] and its grid [1, 3]."""
    height, width = image.shape[1] // 14, image.shape[2] // 14
    frames = torch.stack([image, image])  # [time, channel, height, width]
    split = frames.reshape(2, 3, height // 2, 2, 14, width // 2, 2, 14)
    ordered = split.permute(2, 5, 3, 6, 1, 0, 4, 7)  # windows of merged patches, then C, T, H, W
    return ordered.reshape(height * width, -1), torch.tensor([[1, height, width]])


@pytest.fixture(scope="module")
def answers():
    folder = random_checkpoint()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32
    )
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}
    ]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    def answer(image: torch.Tensor):
        pixels, grid = patches(image)
        visual = int(grid.prod()) // 4
        text = prompt.replace("<|image_pad|>", "<|image_pad|>" * visual)
        ids = tokenizer(text, return_tensors="pt").input_ids
        return model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            pixel_values=pixels,
            image_grid_thw=grid,
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            repetition_penalty=1.0,
            output_scores=True,
            return_dict_in_generate=True,
        )

    rows = torch.linspace(-1.5, 1.5, 112)[:, None].expand(112, 168)
    columns = torch.linspace(-1.5, 1.5, 168)[None, :].expand(112, 168)
    gradient = torch.stack([rows, columns, rows * columns])
    marked = gradient.clone()
    marked[:, 28:56, 28:56] = 1.5  # one merged patch out of 24 differs
    return {
        "gradient": answer(gradient),
        "marked": answer(marked),
        "grey": answer(torch.zeros_like(gradient)),
    }


def test_different_pictures_get_different_answers(answers):
    said = {name: tuple(out.sequences[0, -NEW_TOKENS:].tolist()) for name, out in answers.items()}
    assert len(set(said.values())) == 3, said


def test_an_answer_is_not_one_token_repeated(answers):
    for output in answers.values():
        assert len(set(output.sequences[0, -NEW_TOKENS:].tolist())) > 4


def test_the_first_choice_is_clear(answers):
    for output in answers.values():
        best = torch.stack(output.scores)[:, 0].topk(2).values
        gaps = best[:, 0] - best[:, 1]
        assert gaps.min() > 0.01  # a thousand times the noise of float32
        assert gaps.median() > 0.5
