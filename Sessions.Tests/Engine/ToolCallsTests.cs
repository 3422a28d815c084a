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

        var error = Record.Exception(() => ToolCalls.Require(history, [], AgentHost.Json(input), "s1"));

        Assert.Equal(code, (error as DomainException)?.Error.Code);
        Assert.True(error is null || error.Message.Contains($" {callId}.", StringComparison.Ordinal));
        Assert.Equal(code is null ? null : "s1", (error as DomainException)?.Error.SessionId);

        // An appended turn may leave calls open, but has no output without its call.
        var appended = Record.Exception(() => ToolCalls.RequireCalls(history, [], AgentHost.Json(input), None));
        Assert.Equal(code == "tool_call_not_found" ? code : null, (appended as DomainException)?.Error.Code);
    }

    [Fact]
    public void An_output_whose_call_was_deleted_is_no_obstacle()
    {
        Turn[] history = [AgentHost.Turn(1, None, AgentHost.Json("[null]")),
            AgentHost.Turn(2, AgentHost.Json($"[{OutputA}]"), Items.OfText("x"))];

        ToolCalls.Require(history, [], None, "s1");
    }

    [Fact]
    public void The_turns_that_outputs_need_are_found_from_the_newest_back()
    {
        Turn[] history =
        [
            AgentHost.Turn(1, None, AgentHost.Json($"[{CallA},{CallB}]")),
            AgentHost.Turn(2, AgentHost.Json($"[{OutputB}]"), Items.None),
            AgentHost.Turn(3, AgentHost.Json($"[{OutputA}]"), AgentHost.Json($"[{CallB}]")),
            AgentHost.Turn(4, None, Items.OfText("x")),
        ];

        Assert.Equal([], Needed("[]"));
        Assert.Equal([3], Needed($"[{OutputB}]"));
        Assert.Equal([1, 2, 3], Needed($"[{OutputB},{OutputB}]"));
        Assert.Equal([], Needed($"[{CallA},{OutputA}]"));

        // A call that was answered has no other output: there is none to be found, and all that has its id was looked at.
        Assert.Equal([1, 3], Needed($"[{OutputA}]"));
        Assert.False(Search($"[{OutputA}]").IsDone);
        Assert.Equal([1, 2, 3], ToolCalls.WithOutputs(history[..1], history).Select(turn => turn.Number));
        Assert.True(ToolCalls.HasOutputs(history[1].Input));
        Assert.False(ToolCalls.HasOutputs(history[0].Output));

        IEnumerable<int> Needed(string input) => Search(input).Found.Select(turn => turn.Number).Order();

        ToolCalls.Search Search(string input)
        {
            var search = new ToolCalls.Search(AgentHost.Json(input));
            history.Reverse().ToList().ForEach(search.LookAt);
            return search;
        }
    }

    [Fact]
    public void What_waits_since_before_a_window_may_go_on_waiting()
    {
        Turn[] needed = [AgentHost.Turn(1, None, AgentHost.Json($"[{CallA},{CallB}]"))];
        Turn[] window = [AgentHost.Turn(9, None, Items.OfText("x"))];

        // What answered the other call is not among them.
        ToolCalls.Require(window, needed, AgentHost.Json($"[{OutputA}]"), "s1");

        // In the window itself none may be left.
        Turn[] open = [.. needed, .. window];
        Assert.Equal("tool_output_required", Assert.Throws<DomainException>(
            () => ToolCalls.Require(open, needed, AgentHost.Json($"[{OutputA}]"), "s1")).Error.Code);
    }
}
