"""The sentence that is shown at the end of a run."""

import pytest
from lightning.pytorch import Trainer

from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.model import TokenClassificationModule
from ner_lightning.predict import Tagger
from ner_lightning.predict.tag_sentence import TagSentence
from ner_lightning.predict.tagger import rows_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Cannot enable progress bars"),
]


class SecondLabel(TokenClassificationModule):
    """Decodes to the same label everywhere."""

    def decode(self, batch, logits):
        """The second."""
        return 0 * super().decode(batch, logits) + 1


@pytest.mark.parametrize("kind", [TokenClassificationModule, SecondLabel])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fit_ends_with_a_sentence(conll_files, tiny_model, tmp_path, capsys, kind, precision):
    data = TokenClassificationDataModule(
        train_file=str(conll_files / "train.conll"),
        validation_file=str(conll_files / "validation.conll"),
        model_name_or_path=str(tiny_model),
    )
    model, sentence = kind(str(tiny_model), labels=data.labels, learning_rate=1e-2), "Mira  visited Arvenholm."
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=1,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        callbacks=[TagSentence(sentence)],
        **quiet,
    ).fit(model, data)
    tagger = Tagger(model.model, data.encoder, decode=model.decode, device="cpu", precision=precision)
    shown = tagger.entities.render(next(tagger.label(rows_of(sentence))), colour=False)
    assert capsys.readouterr().out.splitlines()[-1] == shown
    if kind is SecondLabel:
        assert shown == "[Mira LOC]  [visited LOC] [Arvenholm LOC][. LOC]"
