// Speed of layers and links from a TOML file: what `convoy plan --figures` predicts with.
#pragma once
#include <string>

#include "plan_model.h"

namespace convoy {

// [speed]  conv-gflops, fc-gflops  achieved on convolutions and fully connected layers, all other layers' time
//                                  included; a multiply-accumulate is 2
//          update-gbytes           memory traffic of the update: 20 bytes a parameter (weight and momentum are
//                                  read and written, the gradient is read)
//          pass-ms                 a pass beside its layers, when several workers take part (default 0)
//          step-ms                 a step beside everything else (default 0)
// [links]  gbps                    GB/s of each worker's link, either way
//          message-us              a message (default 0)
//          root-workers            workers on one root; 0, the default: all
//          across-roots            rate between two roots, as a part of gbps (default 1)
struct Figures {
  double conv_gflops = 0, fc_gflops = 0, update_gbytes = 0, pass_ms = 0, step_ms = 0;
  double gbps = 0, message_us = 0, across_roots = 1;
  int64_t root_workers = 0;
};

// Throws InputError "file:line:col: message" for what is not TOML, unknown keys, wrong types and values out of
// range, and "file: message" for keys that are missing.
Figures parse_figures(const std::string& text, const std::string& file);
Figures read_figures(const std::string& file);

// Forward is 2 operations a multiply-accumulate, backward twice that: data and weights; the first layer has no
// gradient to hand on.
LayerTimes layer_times(const Net& net, const Figures& figures);
LinkFigures link_figures(const Figures& figures);

// The speeds in a line of words, with the name of their file.
std::string figures_text(const Figures& figures, const std::string& file);

}  // namespace convoy
