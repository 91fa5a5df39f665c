// Says which phase Argo Rollouts gives a measurement: one JSON object a line, in and out.
//
// The conditions are evaluated by the library that Argo uses, in the version that Argo 1.10.2 uses. What follows from
// them is its utils/evaluate.EvaluateResult. A test of ours cannot have that package itself: it needs a newer Go, and
// half of Kubernetes.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/expr-lang/expr"
)

type measurement struct {
	Result           any    `json:"result"`
	SuccessCondition string `json:"successCondition"`
	FailureCondition string `json:"failureCondition"`
}

func holds(condition string, result any) (bool, error) {
	env := map[string]any{"result": result}
	program, err := expr.Compile(condition, expr.Env(env))
	if err != nil {
		return false, err
	}
	output, err := expr.Run(program, env)
	if err != nil {
		return false, err
	}
	is, ok := output.(bool)
	if !ok {
		return false, fmt.Errorf("expected bool, but got %T", output)
	}
	return is, nil
}

func phase(of measurement) string {
	succeeded, failed := false, false
	var err error
	if of.SuccessCondition != "" {
		if succeeded, err = holds(of.SuccessCondition, of.Result); err != nil {
			return "Error: " + err.Error()
		}
	}
	if of.FailureCondition != "" {
		if failed, err = holds(of.FailureCondition, of.Result); err != nil {
			return "Error: " + err.Error()
		}
	}
	switch {
	case of.SuccessCondition == "" && of.FailureCondition == "":
		return "Successful"
	case of.FailureCondition == "":
		failed = !succeeded
	case of.SuccessCondition == "":
		succeeded = !failed
	}
	switch {
	case failed:
		return "Failed"
	case succeeded:
		return "Successful"
	}
	return "Inconclusive"
}

func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked measurement
		if err := in.Decode(&asked); err == io.EOF {
			return
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(phase(asked)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
