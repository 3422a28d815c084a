using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;

namespace Sessions.Tests;

/// <summary>
/// A model behind the server that does what the user's last message asks for: so any client, in any language, can have it call tools,
/// stream, fail. It speaks chat completions.
/// </summary>
/// <remarks>
/// <list type="bullet">
/// <item><c>say TEXT</c>: answers with the text.</item>
/// <item><c>call TOOL N</c>: calls the tool in N rounds, then tells the outputs. <c>both TOOL</c>: two calls at once.
/// <c>mix TOOL OTHER</c>: the tool, the other one, and the tool again, at once.</item>
/// <item><c>fail</c>: answers 500. <c>break</c>: starts an answer and breaks off. <c>hold</c>: starts an answer and waits to be let go,
/// or for its client to go.</item>
/// <item><c>refuse TEXT</c>, <c>long</c>: a refusal, behind a text if there is one; an answer that is cut short. <c>json</c>: a JSON
/// object. <c>options</c>: what else the request held.</item>
/// <item>anything else: tells what users have said so far, and how many images came along.</item>
/// </list>
/// </remarks>
internal sealed class ScriptedModel : IAsyncDisposable
{
    private readonly ChatCompletionsServer _server;
    private readonly TaskCompletionSource _letGo = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private ScriptedModel(ChatCompletionsServer server)
    {
        _server = server;
        server.Reply = (request, _, http) => ReplyAsync(request, http);
    }

    /// <summary>What it was asked, in order.</summary>
    public IReadOnlyList<JsonNode> Requests => _server.Requests;

    public static async Task<ScriptedModel> StartAsync() => new(await ChatCompletionsServer.StartAsync());

    /// <summary>The settings that make <paramref name="agent"/> an agent on it.</summary>
    public IEnumerable<(string Key, string Value)> Agent(string agent) => _server.Agent(agent);

    /// <summary>Lets those go on that were asked to hold.</summary>
    public void LetGo() => _letGo.TrySetResult();

    public async ValueTask DisposeAsync()
    {
        LetGo();
        await _server.DisposeAsync();
    }

    private async Task ReplyAsync(JsonNode request, HttpContext http)
    {
        var messages = request["messages"]!.AsArray();
        var last = messages.Count - 1;
        while (last >= 0 && (string?)messages[last]!["role"] != "user")
        {
            last--;
        }

        var asked = last < 0 ? "" : Text(messages[last]!["content"]);
        var words = asked.Split(' ');
        List<string> outputs = [.. messages.Skip(last + 1).Where(message => (string?)message!["role"] == "tool")
            .Select(message => Text(message!["content"]))];
        var finish = "stop";
        string? text = null;
        string? refusal = null;
        List<(string Name, string Arguments)> calls = [];
        switch (words[0])
        {
            case "say":
                text = asked[4..];
                break;
            case "call" when outputs.Count < int.Parse(words[2], System.Globalization.CultureInfo.InvariantCulture):
                calls.Add((words[1], $$"""{"round":{{outputs.Count + 1}}}"""));
                break;
            case "both" when outputs.Count == 0:
                calls.Add((words[1], """{"round":1}"""));
                calls.Add((words[1], """{"round":2}"""));
                break;
            case "mix" when outputs.Count == 0:
                calls.Add((words[1], """{"round":1}"""));
                calls.Add((words[2], """{"round":2}"""));
                calls.Add((words[1], """{"round":3}"""));
                break;
            case "call" or "both" or "mix":
                text = $"after {outputs.Count} calls: {string.Join(", ", outputs)}";
                break;
            case "fail":
                http.Response.StatusCode = StatusCodes.Status500InternalServerError;
                await http.Response.WriteAsync("""{"error":{"message":"as asked"}}""");
                return;
            case "refuse":
                (text, refusal) = (words.Length > 1 ? words[1] : null, "I won't.");
                break;
            case "long":
                (text, finish) = ("This was going to be", "length");
                break;
            case "json":
                text = """{"city":"Paris","country":"France"}""";
                break;
            case "options":
                var options = request.DeepClone().AsObject();
                options.Remove("messages");
                options["system"] = new JsonArray([.. messages.Where(message => (string?)message!["role"] is "system" or "developer")
                    .Select(message => JsonValue.Create(Text(message!["content"])))]);
                text = options.ToJsonString();
                break;
            case "break" or "hold":
                text = "It begins";
                break;
            default:
                List<JsonNode> users = [.. messages.Where(message => (string?)message!["role"] == "user").Select(message => message!)];
                var images = users.SelectMany(user => user["content"] as JsonArray ?? [])
                    .Count(part => (string?)part!["type"] == "image_url");
                text = $"I heard {users.Count}: "
                    + $"{string.Join(" / ", users.Select(user => Text(user["content"])))}{(images > 0 ? $", and saw {images}" : "")}";
                break;
        }

        if ((bool?)request["stream"] != true)
        {
            if (words[0] == "break")
            {
                http.Abort();
                return;
            }

            if (words[0] == "hold")
            {
                await _letGo.Task.WaitAsync(http.RequestAborted);
            }

            await http.Response.WriteAsJsonAsync(
                Completion(Message(text, refusal, calls), calls.Count > 0 ? "tool_calls" : finish), http.RequestAborted);
            return;
        }

        http.Response.ContentType = "text/event-stream";
        await WriteAsync(http, new JsonObject { ["role"] = "assistant" }, null);
        for (var i = 0; i < text?.Length; i += 5)
        {
            await WriteAsync(http, new JsonObject { ["content"] = text[i..Math.Min(text.Length, i + 5)] }, null);
        }

        if (refusal is not null)
        {
            await WriteAsync(http, new JsonObject { ["refusal"] = refusal }, null);
        }

        if (words[0] == "break")
        {
            // Without a reason why it ends.
            return;
        }

        if (words[0] == "hold")
        {
            await HoldAsync(http);
        }

        for (var i = 0; i < calls.Count; i++)
        {
            var (name, arguments) = calls[i];
            await WriteAsync(http, Call(i, NewCallId(), name, ""), null);
            await WriteAsync(http, Call(i, null, null, arguments[..4]), null);
            await WriteAsync(http, Call(i, null, null, arguments[4..]), null);
        }

        await WriteAsync(http, [], calls.Count > 0 ? "tool_calls" : finish);
        var end = new JsonObject
        {
            ["id"] = "chatcmpl-1",
            ["object"] = "chat.completion.chunk",
            ["created"] = 1767225600,
            ["model"] = "test-model",
            ["choices"] = new JsonArray(),
            ["usage"] = Usage(),
        };
        await http.Response.WriteAsync($"data: {end.ToJsonString()}\n\ndata: [DONE]\n\n");
    }

    private async Task HoldAsync(HttpContext http)
    {
        await http.Response.Body.FlushAsync();
        await _letGo.Task.WaitAsync(http.RequestAborted);
    }

    private static string NewCallId() => $"call_{Guid.NewGuid():N}";

    private static string Text(JsonNode? content) => content switch
    {
        JsonArray parts => string.Concat(parts.Select(part => (string?)part!["text"] ?? "")),
        null => "",
        _ => (string)content!,
    };

    private static JsonObject Usage() => new()
    {
        ["prompt_tokens"] = 11,
        ["completion_tokens"] = 7,
        ["total_tokens"] = 18,
        ["prompt_tokens_details"] = new JsonObject { ["cached_tokens"] = 3 },
        ["completion_tokens_details"] = new JsonObject { ["reasoning_tokens"] = 2 },
    };

    private static JsonObject Message(string? text, string? refusal, List<(string Name, string Arguments)> calls)
    {
        var message = new JsonObject { ["role"] = "assistant", ["content"] = text, ["refusal"] = refusal };
        if (calls.Count > 0)
        {
            message["tool_calls"] = new JsonArray([.. calls.Select(call => new JsonObject
            {
                ["id"] = NewCallId(),
                ["type"] = "function",
                ["function"] = new JsonObject { ["name"] = call.Name, ["arguments"] = call.Arguments },
            })]);
        }

        return message;
    }

    private static JsonObject Call(int index, string? id, string? name, string arguments)
    {
        var function = new JsonObject { ["arguments"] = arguments };
        var call = new JsonObject { ["index"] = index, ["function"] = function };
        if (id is not null)
        {
            (call["id"], call["type"], function["name"]) = (id, "function", name);
        }

        return new JsonObject { ["tool_calls"] = new JsonArray(call) };
    }

    private static JsonObject Completion(JsonObject message, string finish) => new()
    {
        ["id"] = "chatcmpl-1",
        ["object"] = "chat.completion",
        ["created"] = 1767225600,
        ["model"] = "test-model",
        ["choices"] = new JsonArray(new JsonObject { ["index"] = 0, ["finish_reason"] = finish, ["message"] = message }),
        ["usage"] = Usage(),
    };

    private static async Task WriteAsync(HttpContext http, JsonObject delta, string? finish)
    {
        var chunk = new JsonObject
        {
            ["id"] = "chatcmpl-1",
            ["object"] = "chat.completion.chunk",
            ["created"] = 1767225600,
            ["model"] = "test-model",
            ["choices"] = new JsonArray(new JsonObject { ["index"] = 0, ["delta"] = delta, ["finish_reason"] = finish }),
        };
        await http.Response.WriteAsync($"data: {chunk.ToJsonString()}\n\n", http.RequestAborted);
        await http.Response.Body.FlushAsync(http.RequestAborted);
    }
}
