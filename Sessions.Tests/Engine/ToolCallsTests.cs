using Sessions.Tests.Agents;

namespace Sessions.Tests;

/// <summary>Calls and their outputs: what must be there before an agent answers, and what a window may not cut.</summary>
public sealed class ToolCallsTests
{
    private const string CallA =
        """{"type":"function_call","call_id":"a","name":"f","arguments":"{\"type\":\"function_call_output\",\"call_id\":\"x\"}"}""";
    private const string CallB = """{"type":"function_call","call_id":"b","name":"f","arguments":"{}"}""";
    private const string OutputA = """{"type":"function_call_output","call_id":"a","output":"""
        + """[{"type":"input_text","text":"function_call"}]}""";
    private const string OutputB = """{"call_id":"b","output":"1","type":"function_call_output"}""";

    private static readonly Items None = Items.OfText("hello");

    public static TheoryData<string, string, string?, string?> Cases => new()
    {
        // History's output side, input; the code, the call.
        { "[]", "[]", null, null },
        { $"[{CallA}]", $"[{OutputA}]", null, null },
        { $"[{CallA},{CallB}]", $"[{OutputB},null,{OutputA}]", null, null },
        { "[]", $"[{CallA},{OutputA}]", null, null },

        // The same id twice, one after the other, as servers do that count from 0 in each answer.
        { $"[{CallA}]", $"[{OutputA},{CallA},{OutputA}]", null, null },
        { $"[{CallA}]", "[]", "tool_output_required", "a" },
        { $"[{CallA},{CallB}]", $"[{OutputA}]", "tool_output_required", "b" },
        { "[]", $"[{CallA}]", "tool_output_required", "a" },
        { $"[{CallA}]", $"[{OutputA},{OutputA}]", "tool_call_not_found", "a" },
        { "[]", $"[{OutputA}]", "tool_call_not_found", "a" },
        { "[]", $"[{OutputA},{CallA}]", "tool_call_not_found", "a" },
        { $"[null,{CallB}]", $"[{OutputA}]", "tool_call_not_found", "a" },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Every_call_needs_its_output_and_every_output_its_call(string output, string input, string? code, string? callId)
    {
        Turn[] history = [AgentHost.Turn(1, None, AgentHost.Json(output))];

        var error = Record.Exception(() => ToolCalls.Require(history, AgentHost.Json(input), "s1"));

        Assert.Equal(code, (error as DomainException)?.Error.Code);
        Assert.True(error is null || error.Message.Contains($" {callId}.", StringComparison.Ordinal));
        Assert.Equal(code is null ? null : "s1", (error as DomainException)?.Error.SessionId);

        // An appended turn may leave calls open, but has no output without its call.
        var appended = Record.Exception(() => ToolCalls.RequireCalls(history, AgentHost.Json(input), None));
        Assert.Equal(code == "tool_call_not_found" ? code : null, (appended as DomainException)?.Error.Code);
    }

    [Fact]
    public void An_output_whose_call_was_deleted_is_no_obstacle()
    {
        Turn[] history = [AgentHost.Turn(1, None, AgentHost.Json("[null]")),
            AgentHost.Turn(2, AgentHost.Json($"[{OutputA}]"), Items.OfText("x"))];

        ToolCalls.Require(history, None, "s1");
        Assert.Same(history, ToolCalls.WithoutOrphans(history));
    }

    [Fact]
    public void A_window_does_not_begin_with_an_output()
    {
        Turn[] history =
        [
            AgentHost.Turn(1, None, AgentHost.Json($"[{CallA}]")),
            AgentHost.Turn(2, AgentHost.Json($"[{OutputA}]"), AgentHost.Json($"[{CallB}]")),
            AgentHost.Turn(3, AgentHost.Json($"[{OutputB}]"), Items.OfText("x")),
            AgentHost.Turn(4, None, Items.OfText("y")),
        ];

        Assert.Equal([1, 2, 3, 4], ToolCalls.WithoutOrphans(history).Select(turn => turn.Number));
        Assert.Equal([4], ToolCalls.WithoutOrphans(history[1..]).Select(turn => turn.Number));
        Assert.Equal([4], ToolCalls.WithoutOrphans(history[2..]).Select(turn => turn.Number));
        Assert.True(ToolCalls.HasOutputs(history[1].Input));
        Assert.False(ToolCalls.HasOutputs(history[0].Output));
    }
}
