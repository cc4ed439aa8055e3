#!/usr/bin/env bash
# A tour of llm with DeepSeek V4, each command shown before it runs:
#
#     bash examples/llm/tour.sh                      # ds4-tiny: understands these questions and little else
#     MODEL=ds4-flash bash examples/llm/tour.sh
#
# It leaves its prompts in llm's log (`llm logs`) and a template named ds4-tour.
set -eu
cd "$(dirname "$0")"
model=${MODEL:-ds4-tiny}

PS4=$'\n$ '  # what `set -x` puts before each command
set -x

# A question. The first one starts the host, which loads the model; it stays for the next ones.
llm -m "$model" -o temperature 0 'What is 3 times 12?'

# -c goes on with the conversation; what was read before is not read again. The thinking comes on standard error.
llm -m "$model" -o temperature 0 'My name is Gertrude'
llm -c -o temperature 0 'What is my name?'

# Without the thinking; or not shown (-R).
llm -m "$model" -o temperature 0 -o thinking false 'Add 12 and 30'
llm -m "$model" -o temperature 0 -R 'Hello!'

# Tools: functions in a file. --td shows the calls and what came back.
llm -m "$model" -o temperature 0 --functions tools.py --td 'what is the weather in sf'

# Answers held to a schema or a pattern, token by token.
llm -m "$model" -o temperature 0 --schema 'name, age int' 'Invent a dog'
llm -m "$model" -o temperature 0 -o regex '(yes|no)' 'Is 7 prime?'

# A template: the model, the system prompt and the options under one name.
llm -m "$model" -s 'Answer briefly.' -o temperature 0 --save ds4-tour
llm -t ds4-tour 'Hello!'

# A long file as a fragment. The second question finds it read: -u shows how many tokens were cached.
llm -t ds4-tour -f ../../docs/host.md -o max_tokens 40 -u 'What is 3 times 12?'
llm -t ds4-tour -f ../../docs/host.md -o max_tokens 40 -u 'Add 12 and 30'

# The log of the last answer, and what the host and its cache have done so far.
llm logs -n 1 --short --usage
llm ds4 status
llm ds4 cache stats
