"""The entry of model-index that a report fills, as the client of the Hub reads it."""

from __future__ import annotations

import numpy as np
from huggingface_hub import ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results
from report.synthetic import make_layer, make_report, unverified

from hf_ess.hub.card_section import DOCUMENTATION, model_index_entry


def test_the_entry_of_model_index():
    values = np.array([[[2.0, 3.0]]])
    tolerances = {0.1: values, 0.001: values, 1e-5: values}
    layer = make_layer(
        0, positions=(4, 8), groups=1, entropy_ess=values / 3, tolerance_ess=tolerances,
        capacity=10, attainable_by_group=4,
    )  # fmt: skip
    report = make_report([layer], positions=(4, 8))
    report.samples[0].text_sha256 = "1234abcd" * 8
    assert model_index_entry(report, repo_id="user/my-model") == {
        "name": "my-model",
        "results": [
            {
                "task": {"type": "text-generation"},
                "dataset": {"type": "text", "name": "text, SHA-256 1234abcd..., 12 tokens"},
                "metrics": [
                    {
                        "type": "average_entropy_ess",
                        "name": "average entropy-ESS per channel",
                        "value": 0.833333,
                    },
                    {
                        "type": "average_tolerance_ess_0.1",
                        "name": "average tolerance-ESS(0.1) per channel",
                        "value": 2.5,
                    },
                    {
                        "type": "average_tolerance_ess_0.001",
                        "name": "average tolerance-ESS(0.001) per channel",
                        "value": 2.5,
                    },
                    {
                        "type": "average_tolerance_ess_1e-05",
                        "name": "average tolerance-ESS(1e-05) per channel",
                        "value": 2.5,
                    },
                    {
                        "type": "utilization_entropy_ess",
                        "name": "utilization, entropy-ESS over capacity",
                        "value": 0.0833333,
                    },
                ],
                "source": {"name": "hf_ess", "url": DOCUMENTATION},
            }
        ],
    }


def test_the_client_of_the_hub_understands_the_entry():
    entry = model_index_entry(make_report(lengths=(12, 11)), repo_id="user/my-model")
    name, results = model_index_to_eval_results([entry])
    assert name == "my-model"
    assert results[0].metric_type == "average_entropy_ess"
    assert len({result.unique_identifier for result in results}) == 1
    assert all(isinstance(result.metric_value, float) for result in results)
    assert ModelCardData(model_name=name, eval_results=results).to_dict()["model-index"]


def test_an_entry_says_of_what_it_is():
    layers = [make_layer(0), make_layer(1, **unverified())]

    def names(report):
        (result,) = model_index_entry(report)["results"]
        return [(metric["type"], metric["name"]) for metric in result["metrics"]]

    partly = names(make_report(layers))
    assert partly[0][1] == "average entropy-ESS per channel, over 1 of 2 layers"
    chosen = names(make_report(provenance={"settings": {"layers": [0]}}))
    assert chosen[0][1].endswith(", over 3 of 3 chosen layers")
    windowed = names(make_report(window=(8, 4)))
    assert windowed[0] == (
        "average_windowed_entropy_ess_window_8x4",
        "average windowed entropy-ESS, window 8x4 per channel",
    )
    jacobian = names(make_report(scope="jacobian"))
    assert jacobian[0][0] == "average_entropy_ess_jacobian"
    assert model_index_entry(make_report())["name"] == "model"
