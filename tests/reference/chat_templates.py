"""Conversations rendered by Transformers' apply_chat_template, for tests/data/ChatTemplate.test.ts.

    python chat_templates.py

reads tests/golden/tokenizers/templates.json (templates in the manner of well-known models, and conversations) and
writes tests/golden/tokenizers/chat.json: for every template and conversation, without and with a generation prompt, the
text, or null where the template raises an exception.
"""

import json

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers_mix import GOLDEN
from transformers import PreTrainedTokenizerFast

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def main() -> None:
    data = json.loads((GOLDEN / "templates.json").read_text(encoding="utf-8"))
    words = Tokenizer(WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **SPECIAL)

    def render(template: str, messages: list, prompt: bool) -> str | None:
        try:
            return tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=prompt, tokenize=False
            )
        except TemplateError:
            return None

    rendered = {
        name: [[render(template, messages, prompt) for prompt in (False, True)] for messages in data["conversations"]]
        for name, template in data["templates"].items()
    }
    (GOLDEN / "chat.json").write_text(json.dumps(rendered, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
