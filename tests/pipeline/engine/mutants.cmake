# One-line bugs that the simulator must notice; how they are planted: cmake/mutants.cmake.
add_library(iv_simulator_test OBJECT simulator_test.cc)
target_link_libraries(iv_simulator_test PRIVATE iv_tests_support)
iv_optimised(iv_simulator_test)

function(iv_mutant name source old new)
  iv_plant_mutant(${name} pipeline/engine/${source} "${old}" "${new}" TEST $<TARGET_OBJECTS:iv_simulator_test> DEPS iv_tests_support)
  iv_optimised(mutant_${name})
endfunction()

iv_mutant(slot_is_not_given_back step_batcher.cc
  "if (it->second.slot) free_slots_.push_back(*it->second.slot);" "")
iv_mutant(embedding_is_not_given_back step_batcher.cc
  "if (job.embedded) forget_.push_back(ref.job);" "")
iv_mutant(deadline_is_never_seen step_batcher.cc
  "deadlines_.begin()->first <= now" "false")
iv_mutant(cancel_is_dropped step_batcher.cc
  "cancelled_.emplace_back(id, std::move(why))" "static_cast<void>(id)")
iv_mutant(job_deadline_does_not_count line_order.cc
  "std::min(deadline, start + target)" "start + target")
iv_mutant(least_urgent_comes_first step_batcher.cc
  "a.at->first < b.at->first" "a.at->first > b.at->first")
iv_mutant(a_row_stays_free step_batcher.cc
  "sample->job->rows() > choice.rows_left() ||" "sample->job->rows() >= choice.rows_left() ||")
iv_mutant(sizes_are_mixed step_batcher.cc
  "if (key.size == size) walk.Add" "walk.Add")
iv_mutant(more_slots_than_there_are step_batcher.cc
  "if (!sample->slot) --slots;" "")
iv_mutant(decoded_one_step_early step_batcher.cc
  "if (sample.steps_left() == 1) ready" "if (sample.steps_left() == 2) ready")
iv_mutant(steps_do_not_advance_together step_batcher.cc
  "      ++sample.next_step;\n      continue;"
  "      sample.next_step += 1 + (tick.denoise.size() > 3 && sample.steps_left() > 2);\n      continue;")
iv_mutant(finished_is_never_decoded step_batcher.cc
  "Line ready = finished_;" "Line ready;")
iv_mutant(failed_sample_runs_on engine.cc
  "std::ranges::count(failed_, placement.sample) > 0" "placement.slot < 0")
iv_mutant(second_half_is_forgotten engine.cc
  "RunSplitting(samples.subspan(samples.size() / 2), call);" "")
iv_mutant(samples_share_a_seed engine.cc
  "job.seed + static_cast<uint64_t>(sample.index)" "job.seed")
iv_mutant(lost_device_is_used_again engine.cc
  "const absl::Status status = device_.ok() ? call(samples) : device_;" "const absl::Status status = call(samples);")
iv_mutant(job_never_ends engine.cc
  "open.job.listener->OnDone(open.FinalMetrics());" "")
iv_mutant(not_finite_is_shown engine.cc
  "if (!(*finite)[i]) Fail" "if (false) Fail")
iv_mutant(blocked_is_shown safety_policy.cc
  "mode_ == SafetyMode::kRequired && IsUnsafe(scores)" "mode_ == SafetyMode::kOff")
iv_mutant(callers_are_not_fair line_order.cc
  "std::max(now, served->second)" "now")
iv_mutant(company_makes_late call_width.cc
  "if (count == 1 || step <= longest_step * (1 + kRounding)) together" "together")
iv_mutant(embeddings_do_not_narrow_the_call call_width.cc
  "candidate.TimeToPicture(times_, 0) - others * times_.embedding" "candidate.TimeToPicture(times_, 0)")
iv_mutant(decode_makes_late step_batcher.cc
  " || makes_late(urgency, time)) return" ") return")
iv_mutant(calls_are_not_padded engine.cc
  "padded_rows = cost_.unet.PaddedRows(unet_rows)" "padded_rows = unet_rows")
iv_mutant(padding_passes_the_ceiling step_batcher.cc
  "cost.RowsWithin(row_ceilings_.Of(size))" "row_ceilings_.Of(size)")
iv_mutant(preview_is_shown_unchecked engine.cc
  "if (safety_.mode() == SafetyMode::kRequired) return;" "")
iv_mutant(preview_comes_at_every_step engine.cc
  "step % job.preview_interval_steps == 0" "step > 0")
