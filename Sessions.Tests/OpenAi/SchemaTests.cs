using System.Text.Json.Nodes;

namespace Sessions.Tests.OpenAi;

/// <summary>The schemas refuse what is wrong: each of these is a fault that broke a client of some server.</summary>
public sealed class SchemaTests
{
    private const string Response = """
        {"id":"resp_1","object":"response","created_at":1767225600,"completed_at":1767225601,"status":"completed","background":false,
         "error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"model":"m",
         "output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":
         [{"type":"output_text","text":"a","annotations":[],"logprobs":[]}]}],
         "parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"service_tier":"default",
         "store":true,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,
         "top_p":null,"truncation":"disabled","usage":{"input_tokens":1,"input_tokens_details":{"cached_tokens":0},"output_tokens":1,
         "output_tokens_details":{"reasoning_tokens":0},"total_tokens":2},"user":null,"metadata":{}}
        """;

    private const string Error = """{"error":{"message":"m","type":"invalid_request_error","param":null,"code":null}}""";
    private const string List = """{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false}""";
    private const string Delta = """{"type":"response.output_text.delta","sequence_number":1,"item_id":"msg_1","output_index":0"""
        + ""","content_index":0,"delta":"a","logprobs":[]}""";

    [Theory]
    [InlineData("response", Response)]
    [InlineData("error", Error)]
    [InlineData("items", List)]
    [InlineData("event:response.output_text.delta", Delta)]
    public void What_is_right_is_taken(string name, string document) => Schemas.Check(name, JsonNode.Parse(document));

    [Theory]
    [InlineData("response", Response, "output", "null")]
    [InlineData("response", Response, "parallel_tool_calls", "null")]
    [InlineData("response", Response, "created_at", "1767225600.5")]
    [InlineData("response", Response, "created_at", "\"2026-01-01T00:00:00Z\"")]
    [InlineData("response", Response, "completed_at", "null")]
    [InlineData("response", Response, "id", "\"abc\"")]
    [InlineData("response", Response, "status", "\"done\"")]
    [InlineData("response", Response, "status", "\"incomplete\"")]
    [InlineData("response", Response, "usage", """{"input_tokens":1,"output_tokens":1,"total_tokens":2}""")]
    [InlineData("response", Response, "output",
        """[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"a"}]}]""")]
    [InlineData("response", Response, "output", """[{"type":"message","role":"assistant","status":"completed","content":[]}]""")]
    [InlineData("response", Response, "output",
        """[{"id":"fc_1","type":"function_call","call_id":"c","name":"n","arguments":{},"status":"completed"}]""")]
    [InlineData("response", Response, "output_text", "\"a\"")]
    [InlineData("response", Response, "metadata", """{"a":1}""")]
    [InlineData("response", Response, "store", null)]
    [InlineData("response", Response, "top_p", null)]
    [InlineData("error", Error, "error", """{"message":"m","type":"invalid_request_error","param":null}""")]
    [InlineData("error", Error, "error", "\"m\"")]
    [InlineData("error", Error, "type", "\"urn:x\"")]
    [InlineData("items", List, "has_more", "true")]
    [InlineData("items", List, "has_more", null)]
    [InlineData("items", List, "data", """[{"id":"x_1","type":"shell_call"}]""")]
    [InlineData("event:response.output_text.delta", Delta, "item_id", null)]
    [InlineData("event:response.output_text.delta", Delta, "sequence_number", "-1")]
    [InlineData("event:response.output_text.delta", Delta, "logprobs", null)]
    public void What_is_wrong_is_refused(string name, string document, string property, string? value)
    {
        var broken = JsonNode.Parse(document)!.AsObject();
        broken.Remove(property);
        if (value is not null)
        {
            broken[property] = JsonNode.Parse(value);
        }

        Assert.NotEmpty(Schemas.FaultsOf(name, broken));
    }
}
