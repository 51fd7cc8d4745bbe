"""Commands of the documentation that no test of a page runs: the test that runs the same thing, or why there is none.

A key is a command or its first words; of several keys the longest counts. A value is FILE::TEST, or a reason.
"""

from documented import Command, commands

NO_NETWORK = "needs a network; test_every_extra_that_the_pages_name_exists_and_is_listed checks the names"
THE_SUITE = "runs this suite, or a part of it"

ELSEWHERE = {
    # The project's own targets and tools
    "make setup": "makes the environment in which the tests run",
    "make lint": THE_SUITE,
    "make check": THE_SUITE,
    "make test": THE_SUITE,
    "make check-full": THE_SUITE,
    "make check-oldest": THE_SUITE,
    "make check-real": (
        "tests/inference/test_real_footage.py::test_a_table_of_real_clips_is_built_and_their_faces_are_detected"
    ),
    "make docs": "tests/test_docs.py::test_the_site_builds_without_a_warning_and_asks_nothing_of_other_hosts",
    "make sample": "seven minutes with `make demo`; docs/quickstart.md has its commands",
    "make demo": "tests/test_commands.py::test_make_demo_prints_its_steps_and_their_duration",
    "make bench": "measures for many minutes",
    "make gpu": "tests/test_gpu_checks.py::test_all_parts_pass_on_a_cpu",
    "make gpu-kit": "fetches wheels",
    "python benchmarks/gpu/run.py --only": (
        "tests/test_gpu_checks.py::test_compiled_modules_compute_what_they_compute_otherwise"
    ),
    ".venv/bin/pre-commit install": "tests/test_commands.py::test_pre_commit_runs_what_make_lint_runs",
    "source .venv/bin/activate": "is for an interactive shell",
    "pip install": NO_NETWORK,
    "python benchmarks/model.py": "measures for many minutes",
    "python tests/dataset/hostile.py --cases 20000": (
        "tests/dataset/test_hostile.py::test_twenty_thousand_invalid_datasets_are_refused_without_harm"
    ),
    "python tests/dataset/hostile.py --cases 500 --seed 2 --subjects csd,lock": (
        "tests/dataset/test_hostile.py::test_other_invalid_files_are_refused_without_harm"
    ),
    # Data
    "mesm-data --version": "tests/test_commands.py::test_both_commands_have_h_and_version",
    "mesm-data --install-completion": "changes the user's shell",
    "mesm-train --install-completion": "changes the user's shell",
    "mesm-data sample iemocap": (
        "tests/test_packaging.py::test_a_wheel_in_a_fresh_environment_writes_the_sample_and_builds_it"
    ),
    "mesm-data sample mosei": "tests/synthetic/test_sample_mosei.py::test_the_command_writes_every_form_of_video",
    "mesm-data build iemocap --source /downloads/release": (
        "tests/corpora/test_processed.py::test_faces_and_sound_are_those_of_the_raw_corpus"
    ),
    "mesm-data build crema-d": (
        "tests/corpora/test_open_build.py::test_crema_d_uses_the_sound_of_the_wav_and_the_frames_of_the_flash_video"
    ),
    "mesm-data build meld": (
        "tests/corpora/test_open_build.py::test_meld_mixes_surround_sound_down_and_prefers_the_twin"
    ),
    "mesm-data build mosi": (
        "tests/corpora/test_open_build.py::test_mosi_is_cut_from_the_whole_video_by_the_labels_times"
    ),
    "mesm-data build ravdess": (
        "tests/corpora/test_open_build.py::test_ravdess_uses_the_lossless_sound_and_the_video_of_the_same_take"
    ),
    "mesm-data build iemocap --source /shared/IEMOCAP --out /shared/iemocap --engine ray": (
        "tests/executors/test_ray.py::test_a_node_that_is_killed_in_the_middle_of_a_build_changes_no_byte"
    ),
    "ray start": "tests/executors/test_ray.py::test_a_node_that_is_killed_in_the_middle_of_a_build_changes_no_byte",
    "mesm-data retry first": "tests/test_own_corpus.py::test_a_repaired_clip_is_retried_from_its_table",
    "mesm-data browse": "tests/train/test_app.py::test_a_dataset_is_filtered_and_an_utterance_opened",
    "mesm-data features /data/mosei --with covarep-csd": (
        "tests/features/test_extractors.py::test_csd_rows_are_joined_by_time_whatever_their_order"
    ),
    "mesm-data features /data/mosei --with facet-csd": (
        "tests/features/test_extractors.py::test_csd_rows_are_joined_by_time_whatever_their_order"
    ),
    "mesm-data splits fetch": "tests/splits/test_fetch.py::test_the_command_lists_fetches_and_shows",
    "mesm-data splits show paper": "tests/splits/test_fetch.py::test_the_command_lists_fetches_and_shows",
    "tar --extract": "tests/test_documented.py::test_the_clip_of_the_tutorial_has_the_text_of_the_tutorial",
    "mv Ses05F_impro01_F002.mp4": (
        "tests/test_documented.py::test_the_clip_of_the_tutorial_has_the_text_of_the_tutorial"
    ),
    # Training
    "mesm-train run iemocap-mesm --data /data/iemocap --set split=paper": (
        "tests/splits/test_fetch.py::test_the_papers_lists_are_available_by_name_once_fetched"
    ),
    "mesm-train run iemocap-mesm --data s3://bucket/iemocap --set split=session-5 --set loader.source=webdataset": (
        "tests/train/test_stream.py::test_an_object_store_is_streamed_through_faults_and_nothing_is_kept"
    ),
    "mesm-train run iemocap-mesm --data s3://bucket/iemocap --set split=session-5 --set loader.cache_gb=100": (
        "tests/train/test_elsewhere.py::test_two_ranks_train_from_s3_as_from_disk_and_fetch_each_shard_once"
    ),
    "mesm-train eval runs/mesm-s5 --data https://example.org/iemocap": (
        "tests/train/test_elsewhere.py::test_two_ranks_train_from_s3_as_from_disk_and_fetch_each_shard_once"
    ),
    "mesm-train run iemocap-fe2e --data /data/iemocap --nproc-per-node 8": (
        "tests/train/test_kills.py::test_a_signal_to_the_command_saves_a_checkpoint_and_stops_all_ranks"
    ),
    "torchrun --standalone": "tests/train/test_kills.py::test_under_torchrun_a_run_resumes_automatically_after_kills",
    "torchrun --nnodes 2": (
        "tests/train/test_kills.py::test_torchrun_starts_ranks_again_on_two_machines_whose_restarts_it_may_count_differently"
    ),
    "srun torchrun": "needs Slurm; what it starts is the torchrun of two machines",
    "mesm-train app": "tests/train/test_app.py::test_a_clip_is_predicted_in_a_browser_and_deleted",
    "mesm-train export demo/fe2e --to onnx": "tests/inference/test_pages.py::test_the_page_on_export",
    "mesm-train settings model.two_phase": (
        "tests/test_commands.py::test_settings_of_a_section_or_one_alone_and_a_key_that_is_misspelt"
    ),
}


def elsewhere(command: Command) -> str | None:
    """The key of ELSEWHERE that a command belongs to."""
    text = " ".join(command.words)
    keys = [key for key in ELSEWHERE if f"{text} ".startswith(f"{key} ")]
    return max(keys, key=len, default=None)


def commands_to_run(page: str) -> list[Command]:
    """The commands of a page, in their order, that the test of the page runs. That test names the page in this call."""
    remaining = [command for command in commands(page) if elsewhere(command) is None]
    assert remaining, f"{page}: no command is left that its test could run"
    return remaining
