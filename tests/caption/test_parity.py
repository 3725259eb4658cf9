"""The service's captions are those that transformers' own generate() gives on the same weights, batched and alone."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_shapes import CAPTIONER_DIR

hub: Any = transformers


class Reference:
    """transformers alone, used as its documentation shows, one image at a time."""

    def __init__(self, folder: Path) -> None:
        self.model = hub.BlipForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = hub.BlipProcessor.from_pretrained(folder)
        self.processor.image_processor = hub.AutoImageProcessor.from_pretrained(folder, backend="pil")

    @cache  # noqa: B019 - a handful of objects for one module of tests
    def caption(self, content: bytes, prompt: str, max_tokens: int, beams: int) -> common_pb2.Caption:
        """What the service should say, confidence from the scores that generate() itself reports."""
        with Image.open(io.BytesIO(content)) as image:
            inputs = self.processor(image.convert("RGB"), prompt or None, return_tensors="pt")
        answer = self.model.generate(
            **inputs,
            num_beams=beams,
            do_sample=False,
            max_new_tokens=max_tokens,
            return_dict_in_generate=True,
            output_logits=True,
            output_scores=True,
        )
        beams_taken = answer.beam_indices if beams > 1 else None
        scores = self.model.text_decoder.compute_transition_scores(
            answer.sequences, answer.logits, beams_taken, normalize_logits=True
        )[0]
        ids = answer.sequences[0]
        generated = ids[len(inputs["input_ids"][0]) - 1 :] if prompt else ids[1:]
        end = self.model.config.text_config.sep_token_id
        count = (generated == end).nonzero()[0].item() + 1 if end in generated else len(generated)
        text = self.processor.decode(ids, skip_special_tokens=True)
        return common_pb2.Caption(
            text=self.processor.tokenizer.clean_up_tokenization(text),
            confidence=scores[:count].exp().mean().item(),
            token_count=count,
            truncated=end not in generated,
        )


@pytest.fixture(scope="module", params=["tiny", "shapes"])
def folder(request: pytest.FixtureRequest, tiny_folder: Path) -> Path:
    return tiny_folder if request.param == "tiny" else CAPTIONER_DIR


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    torch.set_num_threads(1)
    return Reference(folder)


# With the longest prompt as many as the shapes model has positions for: generate() itself fails beyond.
MAX_TOKENS = 16
# Our resizing rounds some bytes to the next grey level, which a tiny model with loud weights hears.
CONFIDENCE = 2e-3
# Words that both vocabularies have.
PROMPTS = ["", "a red", "two small blue"]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompt", PROMPTS)
async def test_batched_and_alone_as_transformers(
    serve: Any, folder: Path, reference: Reference, contents: list[bytes], prompt: str, beams: int
) -> None:
    # The reference computes in float32; what a processor makes of "auto" is for the tests of backends.
    client = await serve(model=f"local-dir:{folder}", precision="float32")
    options = caption_pb2.CaptionOptions(prompt=prompt, max_tokens=MAX_TOKENS, beam_count=beams)
    images = [common_pb2.Image(content=content) for content in contents]
    together = await client.stub.CaptionImages(caption_pb2.CaptionImagesRequest(images=images, options=options))
    assert max(result.timings.batch_size for result in together.results) > 1
    for image, batched in zip(images, together.results, strict=True):
        expected = reference.caption(image.content, prompt, MAX_TOKENS, beams)
        request = caption_pb2.CaptionImagesRequest(images=[image], options=options)
        alone = (await client.stub.CaptionImages(request)).results[0]
        assert alone.timings.batch_size == 1
        for got in (batched.caption, alone.caption):
            assert got.text == expected.text
            assert got.token_count == expected.token_count
            assert got.truncated == expected.truncated
            assert got.confidence == pytest.approx(expected.confidence, abs=CONFIDENCE)
    if folder != CAPTIONER_DIR:
        # The test is worth something only while the images differ in what is said of them.
        assert len({result.caption.text for result in together.results}) >= 4
        assert len({result.caption.token_count for result in together.results}) >= 2


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_word_by_word_is_the_same_caption(
    serve: Any, folder: Path, reference: Reference, contents: list[bytes], prompt: str
) -> None:
    client = await serve(model=str(folder), precision="float32")
    for content in contents[:4]:
        request = caption_pb2.StreamCaptionRequest(
            image=common_pb2.Image(content=content),
            options=caption_pb2.CaptionOptions(prompt=prompt, max_tokens=12),
        )
        answers = [answer async for answer in client.stub.StreamCaption(request)]
        expected = reference.caption(content, prompt, 12, 1)
        assert "".join(answer.delta for answer in answers) == expected.text
        assert answers[-1].WhichOneof("piece") == "caption"
        assert answers[-1].caption.text == expected.text
        assert answers[-1].caption.confidence == pytest.approx(expected.confidence, abs=CONFIDENCE)


async def test_a_stream_of_many_says_the_same(
    serve: Any, folder: Path, reference: Reference, contents: list[bytes]
) -> None:
    client = await serve(model=str(folder), max_batch=5, precision="float32")
    options = caption_pb2.CaptionOptions(max_tokens=MAX_TOKENS)
    items = [
        caption_pb2.CaptionStreamItem(ref=str(index), image=common_pb2.Image(content=content))
        for index, content in enumerate(contents)
    ]
    requests = [
        caption_pb2.CaptionStreamRequest(options=options, items=items[:7]),
        caption_pb2.CaptionStreamRequest(items=items[7:]),
    ]
    texts = {
        result.ref: result.result.caption.text
        async for answer in client.stub.CaptionStream(iter(requests))
        for result in answer.results
    }
    assert texts == {
        str(index): reference.caption(content, "", MAX_TOKENS, 1).text for index, content in enumerate(contents)
    }
